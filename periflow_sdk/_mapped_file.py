"""A journal segment that records are copied into through shared memory, and that never raises."""

from __future__ import annotations

import mmap
import os
import time
from _thread import RLock

from ._console import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW_BYTES = 64 * 1024
_LOOK_BYTES = 16 * 1024  # how much is written between two looks at the file's existence
_RETRY_SECONDS = 1.0


class MappedFile:
    """A file whose next stretch is reserved and mapped, so that a record costs no system call.

    A record is in the page cache when append() returns, as after a write(2), and survives the
    process. Bytes that are reserved and not written yet are zero, which no record contains:
    readers stop at the first. The file is cut to its records when it is closed or full.

    A record that found no room is counted in ``lost`` and the first reason kept in ``error``.

    Args:
        open_next: Opens the file, or the next segment of it, for reading and writing, and returns
            its descriptor; what it has written itself comes before all records.
        segment_bytes: The size after which ``open_next`` is called again.
    """

    def __init__(self, open_next: Callable[[], int], segment_bytes: int) -> None:
        self.lost = 0
        self.error: str | None = None
        self._open_next = open_next
        self._segment_bytes = segment_bytes
        self._closed_reason = ""
        self._retry_at = 0.0
        self._fd = -1
        self._base = 0  # where the window is in the file
        self._window: mmap.mmap | None = None
        self._position = 0  # the next record's place in the window
        self._end = -1  # where to look next; -1 while in trouble
        self._turn = RLock()
        self._is_looking = False
        self._reopen()

    def append(self, line: bytes, records: int = 1) -> bool:
        """Copy a record, or so many at once, into the file; False if they are lost."""
        # Threads change only where a function is called or a loop goes round. There is neither
        # from the look at the position to the copy, so nobody else gets the same place.
        size = len(line)
        start = self._position
        end = start + size
        if end > self._end:
            return self._append_after_look(line, records)
        self._position = end
        self._window[start:end] = line  # type: ignore[index]
        return True

    def close(self) -> None:
        """Close the file; what is appended later is lost."""
        with self._turn:
            if self._fd >= 0 and os.fstat(self._fd).st_nlink == 0:
                self._note("its folder was deleted")
            self._end, self._closed_reason = -1, "the run is finished"
            self._shut()

    def abandon(self, reason: str) -> None:
        """Lose every later record, for this reason. The file stays as it is, for its owner."""
        fd, self._fd, self._end, self._closed_reason = self._fd, -1, -1, reason
        self._window = None
        if fd >= 0:
            os.close(fd)

    def _append_after_look(self, line: bytes, records: int) -> bool:
        if self._closed_reason:
            return self._lose(self._closed_reason, records)
        with self._turn:
            if self._is_looking:
                return self._lose("a signal handler came in between", records)
            self._is_looking, self._end = True, -1
            try:
                reason = self._make_room(len(line))
                if reason is not None or self._window is None:
                    return self._lose(reason, records)
                start, self._position = self._position, self._position + len(line)
                self._window[start : self._position] = line
                self._end = min(len(self._window), self._position + _LOOK_BYTES)
                return True
            finally:
                self._is_looking = False

    def _make_room(self, size: int) -> str | None:
        """Why there is no room for so many bytes; None if there is."""
        if self._fd >= 0:
            is_gone = os.fstat(self._fd).st_nlink == 0
            if is_gone or self._base + self._position >= self._segment_bytes:
                self._shut()
                self._retry_at = 0.0
        if self._fd < 0 and not self._reopen():
            return "its folder was deleted"
        if self._window is not None and self._position + size <= len(self._window):
            return None
        return self._move_window(size)

    def _reopen(self) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            self._fd = self._open_next()
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            self._note(error.strerror)
            return False
        self._base, self._position = 0, os.fstat(self._fd).st_size
        return True

    def _move_window(self, size: int) -> str | None:
        written = self._base + self._position
        base = written // mmap.PAGESIZE * mmap.PAGESIZE
        least = _in_pages(written - base + size)
        try:
            length = self._reserve(base, max(_WINDOW_BYTES, least), least)
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            window = mmap.mmap(self._fd, length, flags=flags, offset=base)
        except OSError as error:
            return error.strerror or "unknown error"
        self._window, self._base, self._position = window, base, written - base
        return None

    def _reserve(self, base: int, length: int, least: int) -> int:
        """Have blocks for a stretch: a store to a page without one would kill the process."""
        try:
            os.posix_fallocate(self._fd, base, length)
        except OSError:
            if least == length:
                raise
            os.posix_fallocate(self._fd, base, least)
            return least
        return length

    def _shut(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd, self._window = self._fd, -1, None
        try:
            os.ftruncate(fd, self._base + self._position)
        except OSError as error:
            self._note(error.strerror)
        os.close(fd)

    def _lose(self, reason: str | None, records: int) -> bool:
        self.lost += records
        self._note(reason)
        return False

    def _note(self, reason: str | None) -> None:
        if self.error is None:
            self.error = reason or "unknown error"
            say(f"records are lost ({self.error}); training goes on. pf.status() counts them.")


def _in_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
