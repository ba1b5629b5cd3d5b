"""What attached runs hold on the disk and in memory, given back once everything is sent."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from periflow_sdk.agent.folder import NodeFolder, read_json, try_lock
from periflow_sdk.agent.memory import MemoryWriter
from periflow_sdk.agent.ranks import LocalRanks
from periflow_sdk.agent.rundir import has_unsent, remove_run_dir
from periflow_sdk.agent.state import State, StateFile

KEPT_SECONDS = 24 * 3600.0
"""How long the folder of a run that was sent stays: for its log, and for who syncs it anyway."""


def release_run(folder: NodeFolder, state: State) -> None:
    """Give back the memory of a run, and its records if the control plane has them all.

    States in memory become files before. Only who holds the folder's lock may call it.
    """
    _release_memory(folder)
    if state.phase == "finished" and not has_unsent(folder / "run", state.journal_offsets):
        remove_run_dir(folder / "run")


def prune_runs(attached: Path) -> None:
    """Remove folders of runs that were sent a day ago, and what dead agents hold in memory.

    A run with anything unsent stays, records and checkpoints alike.

    Args:
        attached: The folder of all attached runs.
    """
    for path in list(attached.iterdir()) if attached.is_dir() else ():
        folder = NodeFolder(path)
        if path.is_symlink() or folder.attached is None:
            continue
        with _alone(folder) as is_alone:
            if not is_alone:
                continue
            release_run(folder, StateFile(folder / "state.json").state)
            if _is_over(folder):
                shutil.rmtree(path, ignore_errors=True)


def _is_over(folder: NodeFolder) -> bool:
    """Whether a run was sent whole, some time ago."""
    try:
        age = time.time() - (folder / "state.json").stat().st_mtime
    except OSError:
        return False
    worker = read_json(folder / "worker.json") or {}
    is_whole = worker.get("complete") and not worker.get("ledger", {}).get("kept")
    is_finished = (read_json(folder / "state.json") or {}).get("phase") == "finished"
    return bool(is_finished and is_whole and age > KEPT_SECONDS and not (folder / "run").exists())


def _release_memory(folder: NodeFolder) -> None:
    memory = folder.memory(folder / "run")
    if not memory.name.startswith("attached-") or not memory.is_dir():
        return
    MemoryWriter(folder.checkpoint, folder / "run", memory_dir=memory).finish()
    # A rank that lives may leave more there; one that nobody has seen yet may be about to.
    if LocalRanks(folder / "run", 1).poll() != "running":
        shutil.rmtree(memory, ignore_errors=True)


@contextmanager
def _alone(folder: NodeFolder) -> Iterator[bool]:
    lock = try_lock(folder / "agent.lock")
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)
