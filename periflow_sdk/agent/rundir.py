"""The run directory: in memory where there is room, else in the node folder."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.api.models import Assignment

_SHARED_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 256 * 1024 * 1024


def make_run_dir(assignment: Assignment, folder: NodeFolder) -> Path:
    """The run directory of this node of this attempt, made if it is missing."""
    own = _SHARED_MEMORY / f"periflow-{os.getuid()}"
    name = f"{assignment.job_id}-{assignment.attempt}-{assignment.node_rank}"
    path = own / name if _is_usable(own) else folder / "run"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def remove_run_dir(path: Path) -> None:
    """Remove it: everything in it has been shipped."""
    shutil.rmtree(path, ignore_errors=True)


def _is_usable(own: Path) -> bool:
    """Memory with room, in a folder that nobody else has made there before us."""
    try:
        room = shutil.disk_usage(_SHARED_MEMORY).free > _ROOM_BYTES
        if not room or not os.path.ismount(_SHARED_MEMORY):
            return False
        own.mkdir(mode=0o700, exist_ok=True)
        status = own.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and stat.S_IMODE(status.st_mode) == 0o700
    )
