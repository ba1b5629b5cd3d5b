"""A file in memory that a state is copied into, and that the agent's worker writes to the disk."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from pathlib import Path
from typing import Any

MAGIC = 0x50464C4F57000002
HEADER_BYTES = 4096
ALIGNMENT = 64
# Words of the header. CONSUMED is written by the worker only, the others by the rank only.
FILLED, CONSUMED, INDEX_OFFSET, INDEX_BYTES = range(1, 5)


class MemoryFile:
    """One state at a time: a header, the bytes of its storages, its pickle and its index.

    The file outlives this process, which holds an flock on it for life: a file without one and
    without anything to read is removed by the worker.

    Args:
        path: Where to make it; on a file system in memory.
        size: Bytes it can hold, header included.

    Raises:
        OSError: There is no room.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        # Named when it is locked: until then the worker would take it for a dead process's.
        self._new = path.with_name(f"new-{path.name}")
        self._fd = os.open(self._new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Reserved now: a store to a page that cannot be had would kill the process.
            os.posix_fallocate(self._fd, 0, size)
            self.map = mmap.mmap(self._fd, size)
        except OSError:
            self.remove()
            raise
        self._words = memoryview(self.map)[:HEADER_BYTES].cast("q")
        self._words[0] = MAGIC
        self._new.rename(path)
        self.tensor: Any = None  # a torch tensor over the map, made by who fills it

    @property
    def is_free(self) -> bool:
        """Whether the worker has written what was last put in."""
        return self._words[CONSUMED] >= self._words[FILLED]

    def has_consumed(self, number: int) -> bool:
        """Whether the worker is done with what was put in under this number."""
        return self._words[CONSUMED] >= number

    def seal(self, number: int, position: int, index: dict[str, Any]) -> None:
        """Give what is in the file to the worker; the number is written last.

        Args:
            number: Larger than any before.
            position: Where the index goes.
            index: What is in the file and where it belongs.
        """
        text = json.dumps(index, separators=(",", ":")).encode()
        self.map[position : position + len(text)] = text
        self._words[INDEX_OFFSET] = position
        self._words[INDEX_BYTES] = len(text)
        self._words[FILLED] = number

    def take_back(self) -> None:
        """Undo seal(): nobody was told of it."""
        self._words[FILLED] = self._words[CONSUMED]

    def remove(self) -> None:
        """Give the memory back. The map goes with its last reference."""
        self._new.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        os.close(self._fd)


def pending_number(path: Path) -> int | None:
    """The number of the state in a file of whatever process, while it is still to be written."""
    try:
        with path.open("rb") as file:
            header = memoryview(file.read(8 * (CONSUMED + 1))).cast("q")
        is_pending = header[0] == MAGIC and header[FILLED] > header[CONSUMED]
    except (OSError, IndexError, TypeError):
        return None
    return header[FILLED] if is_pending else None


def free_bytes(folder: Path) -> int:
    """Bytes that a new file in this folder may take: of its file system and of memory."""
    room = os.statvfs(folder)
    return min([room.f_bavail * room.f_frsize, *_available_memory(), *_control_group_memory()])


def _available_memory() -> list[int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


def _control_group_memory() -> list[int]:
    """What the control group and those above it still grant; files of tmpfs count there, too."""
    try:
        name = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    except OSError:
        return []
    root = Path("/sys/fs/cgroup")
    folder = root / name
    return [left for each in (folder, *folder.parents) if (left := _left_in(each)) is not None]


def _left_in(folder: Path) -> int | None:
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such file, or "max"
        return None
    counts = {line.split()[0]: int(line.split()[1]) for line in lines}
    return limit - used + counts.get("inactive_file", 0)
