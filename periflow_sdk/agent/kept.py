"""Checkpoints that could not be sent: kept on the disk, and found by the job's next attempt."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from periflow_sdk.agent.folder import NodeFolder, read_json, try_lock
from periflow_sdk.agent.gathering import Gathering, is_id
from periflow_sdk.agent.journal import segments
from periflow_sdk.agent.ledger import Ledger

_STAGING = ".periflow"


def earlier_attempts(folder: NodeFolder) -> list[NodeFolder]:
    """The folders of this node of earlier attempts of the job on this machine, oldest first."""
    number = folder.path.parent.name
    if not number.isdecimal():
        return []
    found = []
    for other in folder.path.parent.parent.iterdir():
        if other.name.isdecimal() and int(other.name) < int(number):
            path = other / folder.path.name
            if path.is_dir() and not path.is_symlink():
                found.append((int(other.name), path))
    return [NodeFolder(path.resolve()) for _, path in sorted(found)]


def is_deserted(folder: NodeFolder) -> bool:
    """Whether neither the agent nor the command of an attempt lives any more."""
    for name in ("agent.lock", "shim.lock"):
        lock = try_lock(folder / name)
        if lock is None:
            return False
        os.close(lock)
    return True


def place_of(folder: NodeFolder, gathering: Gathering) -> Path:
    """Where the files of a checkpoint that was not sent can be found."""
    return folder.checkpoint / gathering.parts[0].staged


def remove_unkept(folder: NodeFolder) -> None:
    """Empty the staging folder of an attempt that has ended, but for what could not be sent."""
    memory = read_json(folder / "worker.json") or {}
    ledger = Ledger.from_document(memory.get("ledger", {}))
    _remove_all_but(folder, {part.upload_id for each in ledger.kept for part in each.parts})


def remove_stale(folder: NodeFolder, run_dir: Path) -> None:
    """Before the command starts: remove what is staged and that no record names."""
    if not any(segments(run_dir)):
        remove_unkept(folder)


def _remove_all_but(folder: NodeFolder, names: set[str]) -> None:
    staging = folder.checkpoint / _STAGING
    if not staging.is_dir() or staging.is_symlink():
        return
    for entry in list(staging.iterdir()):
        if is_id(entry.name) and entry.name not in names and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
    with contextlib.suppress(OSError):  # something is left in it
        staging.rmdir()
