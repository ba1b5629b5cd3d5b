"""Which staged files make a checkpoint, and when it is whole: records in, checkpoints out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from periflow_sdk.agent.absence import absence
from periflow_sdk.agent.gathering import Gathering, Part, gatherings, is_id
from periflow_sdk.agent.progress import RankProgress
from periflow_sdk.errors import UnsafePathError

if TYPE_CHECKING:
    from periflow_sdk.api.models import SaveType

MARK, INIT_MARK = b'"checkpoint"', b'"t":"init"'
Verdict = Literal["open", "whole", "torn"]
EVERY_STEP = 2**62
_COUNTED = 100


@dataclass
class Ledger:
    """Checkpoints that are not settled yet, in the order of their first parts.

    A launcher may start the ranks again within an attempt. Each process of a rank is a
    generation, and a checkpoint has parts of one generation only: parts from before and after a
    restart do not belong together, whatever their step.

    Attributes:
        kept: Checkpoints that could not be sent and may be, later.
        pids: The processes of each rank (as text, for JSON), in the order they started.
        reached: For each ``rank/generation`` the last step of any of its records.
        expected_ranks: How many ranks the launcher said that it starts here; 0 if it did not.
        counts: How many checkpoints there were of each ``generation/step/save type``.
        is_gang: Other nodes have parts, too.
    """

    gatherings: list[Gathering] = field(default_factory=list)
    broken_records: int = 0
    pids: dict[str, list[int]] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    expected_ranks: int = 0
    kept: list[Gathering] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    is_gang: bool = False

    def read(self, rank: int, lines: bytes, pid: int = 0) -> None:
        """Take the checkpoint records out of whole journal lines of a rank.

        A record that cannot be used is counted and set aside.

        Args:
            pid: The process that wrote them.
        """
        generation = self._generation(rank, pid)
        for line in lines.split(b"\n") if MARK in lines or INIT_MARK in lines else ():
            if MARK in line or INIT_MARK in line:
                try:
                    self._take(rank, json.loads(line), generation)
                except (ValueError, KeyError, TypeError, AttributeError, UnsafePathError):
                    self.broken_records += 1
        self._note_step(f"{rank}/{generation}", lines)

    def verdict(
        self,
        gathering: Gathering,
        progress: Mapping[int, RankProgress],
        *,
        ended: bool,
        ended_well: bool,
    ) -> Verdict:
        """Whether more parts may come (open), none will (whole), or one is missing (torn).

        Args:
            progress: Read before the journal was: what a rank recorded before it moved on, counts.
            ended: The training has ended.
            ended_well: It ended with exit code 0.
        """
        if self._absence(gathering, progress, ended=ended, ended_well=ended_well):
            return "torn"
        waiting = []
        for rank, words in progress.items():
            if self._generation_now(rank, words.pid) > gathering.generation:
                if not self._had_moved_on(gathering, rank):
                    return "torn"
            elif not self._moved_on(gathering, rank, words):
                waiting.append(rank)
        some_to_come = len(progress) < max(self.expected_ranks, 1)
        if not ended and (waiting or some_to_come or gathering.is_being_written):
            return "open"
        is_left = ended and not ended_well
        if is_left and not all(gathering.has_part_of(rank) for rank in waiting):
            return "torn"
        lack = gathering.fault if self.is_gang else gathering.lack
        return "torn" if lack else "whole"

    def passed(
        self,
        generation: int,
        progress: Mapping[int, RankProgress],
        *,
        ended: bool,
        ended_well: bool,
    ) -> tuple[int, bool]:
        """The last step that every rank here has left behind in a generation (-1: none).

        And whether that remains so. Arguments as those of ``verdict``.
        """
        if not ended and len(progress) < max(self.expected_ranks, 1):
            return -1, False
        step, is_over = EVERY_STEP, False
        for rank, words in progress.items():
            now = self._generation_now(rank, words.pid)
            if now > generation:
                step = min(step, self.reached.get(f"{rank}/{generation}", 0) - 1)
                is_over = True
            elif now < generation:  # its parts go by another number: nothing is known to be passed
                step, is_over = -1, is_over or ended
            elif not words.is_done and not ended_well:
                step, is_over = min(step, words.started - 1), is_over or ended
        return step, is_over

    @property
    def generations(self) -> range:
        """All that ranks have begun here."""
        return range(max((len(pids) for pids in self.pids.values()), default=1))

    def why_torn(
        self,
        gathering: Gathering,
        progress: Mapping[int, RankProgress],
        *,
        ended: bool,
        ended_well: bool,
    ) -> str:
        """What a checkpoint lacks that verdict() has found torn."""
        step = gathering.step
        return (
            self._absence(gathering, progress, ended=ended, ended_well=ended_well)
            or (gathering.fault if self.is_gang else gathering.lack)
            or f"the training ended before every rank had passed step {step}; a part may be missing"
        )

    def _absence(
        self,
        gathering: Gathering,
        progress: Mapping[int, RankProgress],
        *,
        ended: bool,
        ended_well: bool,
    ) -> str | None:
        """Which rank an emergency checkpoint is without for good; None for any other."""
        if gathering.save_type != "EMERGENCY":
            return None
        for rank, words in progress.items():
            is_now = self._generation_now(rank, words.pid) == gathering.generation
            if gathering.has_part_of(rank) or not is_now:
                continue
            fault = absence(rank, words, gathering.step, ended=ended, ended_well=ended_well)
            if fault is not None:
                return fault
        if ended and not ended_well and len(progress) < self.expected_ranks:
            return f"only {len(progress)} of {self.expected_ranks} ranks had started"
        return None

    def _moved_on(self, gathering: Gathering, rank: int, words: RankProgress) -> bool:
        if self._generation_now(rank, words.pid) < gathering.generation:
            return False
        if words.started > gathering.step or words.is_done:
            return True
        later = self.gatherings[self.gatherings.index(gathering) + 1 :]
        return any(g.step == gathering.step and g.has_part_of(rank) for g in later)

    def _had_moved_on(self, gathering: Gathering, rank: int) -> bool:
        """Whether a process of the rank that is no more had given its part or gone on."""
        last = self.reached.get(f"{rank}/{gathering.generation}", 0)
        return gathering.has_part_of(rank) or last > gathering.step

    def _generation(self, rank: int, pid: int) -> int:
        pids = self.pids.setdefault(str(rank), [])
        if pid not in pids:
            pids.append(pid)
        return pids.index(pid)

    def _generation_now(self, rank: int, pid: int) -> int:
        """That of the process which wrote the words; one whose journal is not read yet is new."""
        pids = self.pids.get(str(rank), [])
        return pids.index(pid) if pid in pids else len(pids)

    def _note_step(self, process: str, lines: bytes) -> None:
        last = lines.rstrip(b"\n").rpartition(b"\n")[2]
        try:
            step = json.loads(last)["s"]
        except (ValueError, KeyError, TypeError):
            return
        if type(step) is int:
            self.reached[process] = max(step, self.reached.get(process, 0))

    def _take(self, rank: int, record: Any, generation: int) -> None:
        from periflow_sdk.snapshots.path import check_path

        if record["t"] == "init":
            self.expected_ranks = max(self.expected_ranks, int(record.get("local_world_size", 0)))
        if record["t"] != "checkpoint":
            return
        upload_id, step = record["id"], record["s"]
        files = {file["path"]: file["size"] for file in record["files"]}
        changed_at = {f["path"]: int(f["mtime_ns"]) for f in record["files"] if "mtime_ns" in f}
        for path, size in files.items():
            check_path(path)
            if type(size) is not int or size < 0:
                raise ValueError(size)
        if not is_id(upload_id) or record["staged"] != f".periflow/{upload_id}":
            raise UnsafePathError(f"{record['staged']!r} is not a folder of staged files.")
        memory = record.get("memory", 0)
        marks = {f["path"]: _mark(f) for f in record["files"] if "inode" in f}
        # What is in memory yet, or held by a lease, has no staged file with a time to compare.
        times = {} if memory or marks else changed_at
        part = Part(rank, upload_id, files, times, memory, marks=marks)
        if type(step) is not int or not 0 <= step < 2**63 or type(memory) is not int:
            raise ValueError(step)
        if "ranks" in record:
            self._take_shard(part, record)
        elif not files:
            raise ValueError(step)
        save_type: SaveType = "EMERGENCY" if record["save"] == "EMERGENCY" else "NORMAL"
        self._gather(part, (step, save_type, generation))

    def _take_shard(self, part: Part, record: Any) -> None:
        """Read what only a sharded part has; its first record announces it, without files."""
        from periflow_sdk.snapshots.path import check_path

        part.ranks, part.folder = record["ranks"], record["folder"]
        part.failure = str(record.get("failure", ""))[:300]
        check_path(part.folder)
        if type(part.ranks) is not int or part.ranks < 1:
            raise ValueError(part.ranks)
        if not all(path.startswith(f"{part.folder}/") for path in part.files):
            raise UnsafePathError(f"A file of a sharded checkpoint is outside {part.folder}.")
        # A rank that had nothing to write says so in its second record.
        part.is_written = bool(part.files) or any(
            known.upload_id == part.upload_id for g in self.gatherings for known in g.parts
        )

    def _gather(self, part: Part, key: tuple[int, SaveType, int]) -> None:
        for gathering in self.gatherings:
            for number, known in enumerate(gathering.parts):
                if part.folder and (known.upload_id, known.rank) == (part.upload_id, part.rank):
                    gathering.parts[number] = part
                    return
        if part.failure:
            return
        for gathering in self.gatherings:
            is_same = (gathering.step, gathering.save_type, gathering.generation) == key
            if is_same and gathering.takes(part):
                gathering.parts.append(part)
                return
        step, save_type, generation = key
        name = f"{generation}/{step}/{save_type}"
        number = self.counts.pop(name, 0)
        self.counts[name] = number + 1  # the newest last
        for old in list(self.counts)[:-_COUNTED]:
            del self.counts[old]
        self.gatherings.append(Gathering(step, save_type, [part], generation, number))

    def keep(self, gathering: Gathering) -> None:
        """Remember one that could not be sent."""
        if gathering not in self.kept:
            self.kept.append(gathering)

    def forget(self, gathering: Gathering) -> None:
        """It is settled."""
        for group in (self.gatherings, self.kept):
            if gathering in group:
                group.remove(gathering)

    def to_document(self) -> dict[str, Any]:
        """As it is kept in worker.json."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Ledger:
        """Back from worker.json."""
        return cls(
            gatherings=list(gatherings(document.get("gatherings", []))),
            kept=list(gatherings(document.get("kept", []))),
            broken_records=int(document.get("broken_records", 0)),
            pids=document.get("pids", {}),
            reached=document.get("reached", {}),
            expected_ranks=int(document.get("expected_ranks", 0)),
            counts=document.get("counts", {}),
        )


def _mark(file: Mapping[str, Any]) -> tuple[int, int, int]:
    return int(file["size"]), int(file["mtime_ns"]), int(file["inode"])
