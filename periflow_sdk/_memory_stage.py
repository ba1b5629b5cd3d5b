"""States kept in memory until the agent's worker has written them to the checkpoint folder."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ._memory_file import ALIGNMENT, HEADER_BYTES, MemoryFile, free_bytes, pending_number

if TYPE_CHECKING:
    from ._skeleton import Skeleton

WORKER_LOCK = "worker.lock"
_MOST_FILES = 2
_INDEX_BYTES = 4096
_BYTES_A_STORAGE = 48
_LOCK_SECONDS = 1.0
_PAUSE_SECONDS = 0.005


class MemoryStage:
    """Takes states by a plain copy, at most two at a time.

    Args:
        folder: ``rank-<R>`` in the run directory.
        worker_lock: A file that the worker holds an flock on while it serves such states.
    """

    def __init__(self, folder: Path, worker_lock: Path) -> None:
        self._folder = folder
        self._worker_lock = worker_lock
        self._files: list[MemoryFile] = []
        self._made = 0
        self._last = 0
        self._pending: dict[Path, tuple[MemoryFile, int]] = {}

    def is_served(self) -> bool:
        """Whether a worker lives that will write what is staged here."""
        try:
            fd = os.open(self._worker_lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def holds(self, number: int) -> bool:
        """Whether a state of any process of the rank is in memory yet, under this number."""
        return any(pending_number(path) == number for path in self._folder.glob("memory-*"))

    def take(self, state: object, upload_id: str, target: Path, path: str) -> tuple[int, int]:
        """Copy a state and give it to the worker.

        Args:
            state: What ``torch.save`` takes.
            upload_id: The folder below ``.periflow`` that the file is staged in.
            target: Where the file will appear.
            path: The same, relative to the checkpoint folder.

        Returns:
            A number for this state, which is also the file's mtime in ns, and its bytes; 0, 0 if
            there is no room, or both files are still being read.

        Raises:
            UnfitStateError: Only torch.save can deal with this state.
        """
        from ._skeleton import copy_storages, memory_tensor, take_apart

        skeleton = take_apart(state)
        offsets, end = _layout(skeleton)
        room = _INDEX_BYTES + 12 * len(path) + _BYTES_A_STORAGE * len(offsets)
        file = self._free_file(end + len(skeleton.data) + room)
        if file is None:
            return 0, 0
        if file.tensor is None:
            file.tensor = memory_tensor(file.map)
        copy_storages(skeleton.storages, offsets, file.tensor)
        file.map[end : end + len(skeleton.data)] = skeleton.data
        number = self._last = max(time.time_ns(), self._last + 1)
        index = {
            "id": upload_id,
            "path": path,
            "pickle": [end, len(skeleton.data)],
            "storages": list(zip(offsets, skeleton.sizes, strict=True)),
        }
        file.seal(number, end + len(skeleton.data), index)
        self._pending[target] = (file, number)
        return number, sum(skeleton.sizes) + len(skeleton.data)

    def take_back(self, target: Path) -> None:
        """Forget what take() has just staged: it could not be recorded."""
        file, _ = self._pending.pop(target)
        file.take_back()

    def is_pending(self, target: Path) -> bool:
        """Whether the worker has yet to write this file."""
        file, number = self._pending.get(target, (None, 0))
        if file is not None and file.has_consumed(number):
            del self._pending[target]
            return False
        return file is not None

    def wait(self, seconds: float, target: Path | None = None) -> bool:
        """Wait until a file, or every file, is written; False if it takes longer."""
        end = time.monotonic() + seconds
        while any(self.is_pending(t) for t in ([target] if target else list(self._pending))):
            if time.monotonic() >= end or not self.is_served():
                return False
            time.sleep(_PAUSE_SECONDS)
        return True

    def publish(self, temporary: Path, target: Path) -> None:
        """Put a file under its name while the worker may be about to put an older one there.

        Raises:
            OSError: The folder refuses it.
        """
        if not self.is_pending(target):
            temporary.replace(target)
            return
        with publishing(self._folder):
            temporary.replace(target)

    def _free_file(self, size: int) -> MemoryFile | None:
        free = [file for file in self._files if file.is_free]
        for file in free:
            if file.size >= size:
                return file
        for file in free:
            self._drop(file)
        if len(self._files) >= _MOST_FILES:
            return None
        # A state that grows a little, by an optimizer's counters say, keeps its file.
        size = -(-(size + size // 64) // mmap.PAGESIZE) * mmap.PAGESIZE
        if free_bytes(self._folder) < 2 * size:
            return None
        self._made += 1
        try:
            file = MemoryFile(self._folder / f"memory-{os.getpid()}-{self._made}", size)
        except OSError:
            return None
        self._files.append(file)
        return file

    def _drop(self, file: MemoryFile) -> None:
        from ._skeleton import release

        self._files.remove(file)
        release(file.tensor)
        file.tensor = None
        file.remove()


@contextlib.contextmanager
def publishing(folder: Path) -> Iterator[None]:
    """Keep the other of rank and worker from renaming meanwhile; not for ever, if it is stopped."""
    end = time.monotonic() + _LOCK_SECONDS
    fd = os.open(folder / "publish.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while time.monotonic() < end:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(fd)


def _layout(skeleton: Skeleton) -> tuple[list[int], int]:
    """Where each storage goes, and where the last one ends."""
    offsets, position = [], HEADER_BYTES
    for size in skeleton.sizes:
        offsets.append(position)
        position += -(-size // ALIGNMENT) * ALIGNMENT
    return offsets, position
