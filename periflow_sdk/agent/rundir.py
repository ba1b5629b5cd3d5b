"""The run directory: in memory where there is room, else in the node folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk._shared_memory import own_folder
from periflow_sdk.agent.folder import NodeFolder, try_lock
from periflow_sdk.agent.journal import segments
from periflow_sdk.agent.state import StateFile

if TYPE_CHECKING:
    from periflow_sdk.api.models import Assignment

_ROOM_BYTES = 256 * 1024 * 1024
_READ_BYTES = 64 * 1024
_ON_DISK = "run"


def make_run_dir(assignment: Assignment, folder: NodeFolder) -> Path:
    """The run directory of this node of this attempt, made if it is missing."""
    own = own_folder(_ROOM_BYTES)
    name = f"{assignment.job_id}-{assignment.attempt}-{assignment.node_rank}"
    path = own / name if own is not None else folder / _ON_DISK
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def remove_run_dir(path: Path) -> None:
    """Remove it: everything in it has been shipped."""
    shutil.rmtree(path, ignore_errors=True)


def has_unsent(run_dir: Path, offsets: Mapping[str, int]) -> bool:
    """Whether ranks have left whole lines that the control plane does not have.

    Args:
        offsets: How much it has of each segment.
    """
    return any(
        segment.read_lines(offsets.get(segment.key, 0), _READ_BYTES)
        for segment in segments(run_dir)
    )


def retire_run_dir(folder: NodeFolder, memory: StateFile) -> Path | None:
    """Give back the memory of a run directory that no agent will come back to.

    What is unsent moves to the node folder, for `pf job sync`; states that ranks left in memory
    become files there, too. Nobody may work in the folder meanwhile.

    Returns:
        The run directory, if it has something unsent; None if it is gone.

    Raises:
        OSError: The disk does not take it; nothing is lost.
    """
    from periflow_sdk.agent.memory import MemoryWriter

    if not memory.state.run_dir:
        return None
    run_dir = Path(memory.state.run_dir)
    if not has_unsent(run_dir, memory.state.journal_offsets):
        remove_run_dir(run_dir)
        return None
    MemoryWriter(folder.checkpoint, run_dir).finish()
    target = folder / _ON_DISK
    if run_dir == target:
        return target
    new = folder / f"{_ON_DISK}.new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(run_dir, new, symlinks=True, ignore=_without_memory)
    shutil.rmtree(target, ignore_errors=True)  # what a killed one had copied
    new.rename(target)
    memory.state.run_dir = str(target)
    memory.save()
    remove_run_dir(run_dir)
    return target


def retire_deserted(folder: NodeFolder) -> Path | None:
    """The same for a folder whose agent is gone for good; None, too, if somebody works in it.

    Raises:
        OSError: The disk does not take it; nothing is lost.
    """
    locks = [try_lock(folder / name) for name in ("agent.lock", "shim.lock")]
    try:
        if None in locks or not (folder / "state.json").exists():
            return None
        return retire_run_dir(folder, StateFile(folder / "state.json"))
    finally:
        for lock in locks:
            if lock is not None:
                os.close(lock)


def _without_memory(folder: str, names: list[str]) -> list[str]:
    """States that cannot be written, and what is no file, such as the worker's socket."""
    return [
        name
        for name in names
        if name.startswith(("memory-", "new-memory-"))
        or not (Path(folder, name).is_file() or Path(folder, name).is_dir())
    ]
