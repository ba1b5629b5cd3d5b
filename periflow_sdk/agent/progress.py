"""What the ranks say of their progress, and the words that they are told."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from periflow_sdk import _control as word
from periflow_sdk._emergency import RankWords
from periflow_sdk.agent.journal import ranks

_WORDS = 16
_NOTHING = (0,) * _WORDS


@dataclass(frozen=True)
class RankProgress:
    """What one rank says; ``words`` is the page it was read from."""

    started: int
    finished: int
    total: int
    is_done: bool
    words: tuple[int, ...] = _NOTHING

    @property
    def pid(self) -> int:
        """The process that wrote the words."""
        return self.words[word.PID]

    @property
    def finished_early(self) -> bool:
        """Whether the script said that it is done although planned steps are left."""
        return self.is_done and bool(self.words[word.EARLY])

    @property
    def saw_stop(self) -> bool:
        """Whether the script was told to leave its loop."""
        return bool(self.words[word.STOP_SEEN])

    def was_told_to_save_at(self, step: int) -> bool:
        """Whether is_emergency_save() was true there."""
        return 0 < step == self.words[word.SAVED_AT]

    def has_left_at(self, step: int) -> bool:
        """Whether the script has acknowledged the stop that follows the save at a step.

        It need not ask should_stop(): it may save when it is told to, and then end its run.
        """
        return self.saw_stop or (self.is_done and self.was_told_to_save_at(step))

    def was_at(self, step: int) -> bool:
        """Whether the rank has done a step, or was in it when it was told to save or to leave."""
        is_told = self.saw_stop or self.was_told_to_save_at(step)
        return self.finished >= step or (self.started >= step and is_told)

    @property
    def noticed_at(self) -> float | None:
        """When the rank had a SIGTERM, in unix seconds."""
        return self.words[word.NOTICE] / 1000 or None

    @property
    def has_begun(self) -> bool:
        """Whether this process of the rank has started a step."""
        return self.started > self.words[word.FIRST]

    def has_fallen(self) -> bool:
        """Whether the rank is gone, without having finished and without having been told to go."""
        return not (self.is_done or self.noticed_at or self.is_alive())

    def is_alive(self) -> bool:
        """Whether the process of the rank lives."""
        return _is_alive(self.words[word.PID])

    def seen(self) -> RankWords:
        """What a round needs to know of it."""
        return RankWords.of(self.words, is_alive=self.is_alive())


def read_progress(run_dir: Path) -> dict[int, RankProgress]:
    """The progress of every rank that has started on this node."""
    found = {}
    for rank, folder in ranks(run_dir).items():
        words = _read(folder / "progress")
        if words:
            found[rank] = RankProgress(
                started=words[word.STARTED],
                finished=words[word.FINISHED],
                total=words[word.TOTAL],
                is_done=words[word.STATE] == word.DONE,
                words=words,
            )
    return found


def finished_early(ranks: Collection[RankProgress]) -> bool:
    """Whether every rank has finished, and one has said that it is early and meant to be."""
    return all(rank.is_done for rank in ranks) and any(rank.finished_early for rank in ranks)


def write_control(run_dir: Path, words: Iterable[tuple[int, int]]) -> None:
    """Write words and their values, in this order, for every rank that has started."""
    alive = (word.HEARTBEAT, int(time.time() * 1000))
    ordered = [alive, *words]
    for folder in ranks(run_dir).values():
        if _read(folder / "control"):
            descriptor = os.open(folder / "control", os.O_WRONLY | os.O_NOFOLLOW)
            try:
                for place, value in ordered:
                    os.pwrite(descriptor, struct.pack("<q", value), 8 * place)
            finally:
                os.close(descriptor)


def expected_ranks(progress: Collection[RankProgress]) -> int:
    """How many ranks the launcher has started on this node, by the environment it gave them.

    A process that no launcher started has no RANK, and is the only one.
    """
    expected = len(progress)
    for rank in progress:
        variables = _environment(rank.words[word.PID])
        if variables.get("RANK"):
            size = variables.get("LOCAL_WORLD_SIZE") or ""
            if not size and variables.get("NUM_NODES", "1") == "1":
                size = variables.get("WORLD_SIZE") or ""
            expected = max(expected, int(size) if size.isdecimal() else 0)
    return expected


def _environment(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def _is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        return False
    return status.split()[0] not in ("Z", "X")


def _read(path: Path) -> tuple[int, ...] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        data = os.read(descriptor, 8 * _WORDS)
    finally:
        os.close(descriptor)
    if len(data) < 8 * _WORDS:
        return None
    words = struct.unpack(f"<{_WORDS}q", data)
    return words if words[0] == word.MAGIC else None
