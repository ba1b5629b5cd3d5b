"""Files that somebody still has open for writing: what looks still may be half a file."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path

_PAUSE_SECONDS = 0.002


class OpenFiles:
    """Tells files that are being written from those that only stay open, as logs do."""

    def __init__(self) -> None:
        self._logs: set[tuple[int, int]] = set()

    def has(self, file: Path) -> bool:
        """Whether a process has the file open for writing; one that stays open does not count."""
        return _is_open_for_writing(file) and _identity(file) not in self._logs

    def wait(self, file: Path, deadline: float) -> None:
        """Wait until the file is closed. One that nobody touches until then only stays open.

        Args:
            deadline: On the monotonic clock, in seconds.
        """
        before = _mark(file)
        while self.has(file):
            if time.monotonic() >= deadline:
                if _mark(file) == before:
                    self._logs.add(_identity(file))
                return
            time.sleep(_PAUSE_SECONDS)


def _is_open_for_writing(file: Path) -> bool:
    """Asks for a read lease, which the kernel refuses while there is a writer, and gives it back.

    Where there are no leases (other systems, files of other users) nobody is seen.
    """
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A writer that comes just now is told by this signal, which nobody hears, not by SIGIO.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False


def _identity(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino


def _mark(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
