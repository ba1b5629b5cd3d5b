"""Which staged files make a checkpoint, and when it is whole: records in, checkpoints out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from periflow_sdk.agent.progress import RankProgress
from periflow_sdk.errors import UnsafePathError

if TYPE_CHECKING:
    from periflow_sdk.api.models import SaveType

_ID = re.compile(r"[0-9a-f]{32}")
MARK = b'"checkpoint"'
Verdict = Literal["open", "whole", "torn"]


@dataclass
class Part:
    """What one rank staged with one call: its files, path → bytes, in its folder.

    ``memory`` is the number of a state that is in memory until its file is written, else 0.
    A part of a sharded checkpoint is announced when it is saved and has its files (``is_written``)
    some time later, or never (``failure``): all of ``ranks`` ranks have one, below ``folder``.
    ``marks`` are size, mtime and inode of files that the worker copies while it holds them.
    """

    rank: int
    upload_id: str
    files: dict[str, int]
    memory: int = 0
    ranks: int = 1
    folder: str = ""
    is_written: bool = True
    failure: str = ""
    marks: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def is_again(self, other: Part) -> bool:
        """Whether a part has the same rank and some of the same files as another."""
        shares = bool(self.files.keys() & other.files.keys())
        return self.rank == other.rank and (shares or self.folder == other.folder != "")

    @property
    def staged(self) -> str:
        """Where its files are, below the checkpoint folder."""
        return f".periflow/{self.upload_id}"


@dataclass
class Gathering:
    """The parts of one checkpoint, as they come in."""

    step: int
    save_type: SaveType
    parts: list[Part] = field(default_factory=list)

    @property
    def upload_id(self) -> str:
        """The name under which it is announced: that of the part seen first."""
        return self.parts[0].upload_id

    def files(self) -> dict[str, tuple[Part, int]]:
        """Every path with the part it is taken from and its size; the lowest rank wins."""
        chosen: dict[str, tuple[Part, int]] = {}
        for part in sorted(self.parts, key=lambda part: part.rank, reverse=True):
            chosen.update({path: (part, size) for path, size in part.files.items()})
        return chosen

    @property
    def size(self) -> int:
        """Bytes of the whole checkpoint."""
        return sum(size for _, size in self.files().values())

    def has_part_of(self, rank: int) -> bool:
        return any(part.rank == rank for part in self.parts)

    def takes(self, part: Part) -> bool:
        """Whether a part belongs here: a rank that saves the same file again begins anew."""
        return not any(part.is_again(other) for other in self.parts)

    @property
    def is_being_written(self) -> bool:
        """Whether a rank has still to say that its part is on the disk, or will not be."""
        return not all(part.is_written or part.failure for part in self.parts)

    @property
    def lack(self) -> str:
        """Why it can't be published though nothing more comes; empty if it can."""
        for part in self.parts:
            if part.failure:
                return f"rank {part.rank} could not write its part of {part.folder}: {part.failure}"
            if not part.is_written:
                return f"the training ended before rank {part.rank} had written {part.folder}"
            if part.ranks > sum(other.folder == part.folder for other in self.parts):
                return f"not all of {part.ranks} ranks have a part of {part.folder}"
        return ""


@dataclass
class Ledger:
    """Checkpoints that are not settled yet, in the order of their first parts.

    ``kept`` are those that could not be sent and may be, later.
    """

    gatherings: list[Gathering] = field(default_factory=list)
    broken_records: int = 0
    kept: list[Gathering] = field(default_factory=list)

    def read(self, rank: int, lines: bytes) -> None:
        """Take the checkpoint records out of whole journal lines of a rank.

        A record that cannot be used is counted and set aside.
        """
        if MARK not in lines:
            return
        for line in lines.split(b"\n"):
            if MARK in line:
                try:
                    self._take(rank, json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, UnsafePathError):
                    self.broken_records += 1

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
        waiting = [
            rank for rank, words in progress.items() if not self._moved_on(gathering, rank, words)
        ]
        if not ended and (waiting or not progress or gathering.is_being_written):
            return "open"
        is_left = ended and not ended_well
        if is_left and not all(gathering.has_part_of(rank) for rank in waiting):
            return "torn"
        return "torn" if gathering.lack else "whole"

    def _moved_on(self, gathering: Gathering, rank: int, words: RankProgress) -> bool:
        if words.started > gathering.step or words.is_done:
            return True
        later = self.gatherings[self.gatherings.index(gathering) + 1 :]
        return any(g.step == gathering.step and g.has_part_of(rank) for g in later)

    def _take(self, rank: int, record: Any) -> None:
        from periflow_sdk.snapshots.path import check_path

        if record["t"] != "checkpoint":
            return
        upload_id, step = record["id"], record["s"]
        files = {file["path"]: file["size"] for file in record["files"]}
        for path, size in files.items():
            check_path(path)
            if type(size) is not int or size < 0:
                raise ValueError(size)
        if not _ID.fullmatch(upload_id) or record["staged"] != f".periflow/{upload_id}":
            raise UnsafePathError(f"{record['staged']!r} is not a folder of staged files.")
        memory = record.get("memory", 0)
        marks = {f["path"]: _mark(f) for f in record["files"] if "inode" in f}
        part = Part(rank, upload_id, files, memory, marks=marks)
        if type(step) is not int or step < 0 or type(memory) is not int:
            raise ValueError(step)
        if "ranks" in record:
            self._take_shard(part, record)
        elif not files:
            raise ValueError(step)
        save_type: SaveType = "EMERGENCY" if record["save"] == "EMERGENCY" else "NORMAL"
        self._gather(part, step, save_type)

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

    def _gather(self, part: Part, step: int, save_type: SaveType) -> None:
        for gathering in self.gatherings:
            for number, known in enumerate(gathering.parts):
                if part.folder and (known.upload_id, known.rank) == (part.upload_id, part.rank):
                    gathering.parts[number] = part
                    return
        if part.failure:
            return
        for gathering in self.gatherings:
            if (gathering.step, gathering.save_type) == (step, save_type) and gathering.takes(part):
                gathering.parts.append(part)
                return
        self.gatherings.append(Gathering(step, save_type, [part]))

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
            list(_gatherings(document.get("gatherings", []))),
            int(document.get("broken_records", 0)),
            list(_gatherings(document.get("kept", []))),
        )


def _mark(file: Mapping[str, Any]) -> tuple[int, int, int]:
    return int(file["size"]), int(file["mtime_ns"]), int(file["inode"])


def is_id(name: str) -> bool:
    """Whether this is how a folder of staged files is named."""
    return _ID.fullmatch(name) is not None


def _gatherings(items: list[dict[str, Any]]) -> Iterator[Gathering]:
    for item in items:
        parts = [Part(**part) for part in item["parts"]]
        yield Gathering(item["step"], cast("SaveType", item["save_type"]), parts)
