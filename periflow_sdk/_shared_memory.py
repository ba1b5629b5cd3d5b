"""The folder of this user on the file system that is in memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def own_folder(room_bytes: int) -> Path | None:
    """The folder, made if it is missing; None where there is no room, or somebody else's is there.

    Args:
        room_bytes: What has to be free.
    """
    own = SHARED_MEMORY / f"periflow-{os.getuid()}"
    try:
        disk = os.statvfs(SHARED_MEMORY)
        if disk.f_bavail * disk.f_frsize <= room_bytes or not os.path.ismount(SHARED_MEMORY):
            return None
        own.mkdir(mode=0o700, exist_ok=True)
        status = own.lstat()
    except OSError:
        return None
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return own if is_own and stat.S_IMODE(status.st_mode) == 0o700 else None
