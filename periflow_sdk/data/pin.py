"""What this process uses of the cache: held by locks that end with it, however it ends."""

from __future__ import annotations

import fcntl
import os
import threading
from collections import OrderedDict
from pathlib import Path

_FILES = 64
"""So many files that were asked for last stay; whoever opens a file later may ask again."""


class Pins:
    """Shared locks on files and folders of the cache; forked processes keep those they inherit.

    A folder stays pinned as long as the process lives, a file until many others were asked for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, int] = OrderedDict()
        self._folders: dict[str, int] = {}
        os.register_at_fork(after_in_child=self._unlock)

    def hold(self, path: Path) -> bool:
        """Pin what lies there; False if there is nothing, or it is just being removed."""
        name = str(path)
        with self._lock:
            if name in self._folders:
                return True
            if name in self._files and is_at(self._files[name], path):
                self._files.move_to_end(name)
                return True
            descriptor = open_shared(path)
            if descriptor is None:
                return False
            if path.is_dir():
                self._folders[name] = descriptor
                return True
            if (stale := self._files.pop(name, None)) is not None:
                os.close(stale)
            self._files[name] = descriptor
            while len(self._files) > _FILES:
                os.close(self._files.popitem(last=False)[1])
            return True

    def release(self) -> None:
        """Let go of everything."""
        with self._lock:
            for descriptor in (*self._files.values(), *self._folders.values()):
                os.close(descriptor)
            self._files.clear()
            self._folders.clear()

    def _unlock(self) -> None:
        # Another thread of the parent may have held it at the fork.
        self._lock = threading.Lock()


def open_shared(path: Path) -> int | None:
    """A descriptor that keeps others from removing what lies there; None if it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if is_at(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
