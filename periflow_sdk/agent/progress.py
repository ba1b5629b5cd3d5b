"""What the ranks say of their progress, and the word to stop that they may read."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from periflow_sdk import _control as word
from periflow_sdk.agent.journal import ranks

_WORDS = 16


@dataclass(frozen=True)
class RankProgress:
    """The words of one rank."""

    started: int
    finished: int
    total: int
    is_done: bool
    pid: int = 0


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
                pid=words[word.PID],
            )
    return found


def ask_to_stop(run_dir: Path, deadline: float) -> None:
    """Make ``should_stop()`` true and ``deadline()`` known on every rank that has started."""
    for folder in ranks(run_dir).values():
        if _read(folder / "control"):
            descriptor = os.open(folder / "control", os.O_WRONLY | os.O_NOFOLLOW)
            try:
                os.pwrite(descriptor, struct.pack("<q", int(deadline * 1000)), 8 * word.DEADLINE)
                os.pwrite(descriptor, struct.pack("<q", 1), 8 * word.STOP)
            finally:
                os.close(descriptor)


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
