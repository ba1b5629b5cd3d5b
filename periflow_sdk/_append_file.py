"""A file that records are appended to and that never raises."""

from __future__ import annotations

import os
import time

from ._console import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_BYTES = 16 * 1024  # how much is written between two looks at the file's size and existence
_write = os.write


class AppendFile:
    """A file that takes one write(2) a record and never raises, whatever the disk does.

    A record that could not be written is counted in ``lost`` and the first reason kept in
    ``error``. The file's descriptor keeps its number for life, so that a thread that writes
    while another opens it anew can never hit a stranger's file.

    Args:
        open_file: Opens the file and returns its descriptor.
    """

    def __init__(self, open_file: Callable[[], int]) -> None:
        self.lost = 0
        self.error: str | None = None
        self._open_file = open_file
        self._left = _LOOK_BYTES
        self._is_torn = False
        self._is_missing = True
        self._retry_at = 0.0
        self._closed_reason = ""
        self._fd = -1  # -1 while in trouble: the next write fails, and is handled apart
        self._kept = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # a number to open over
        self._reopen()

    def append(self, line: bytes, records: int = 1) -> bool:
        """Write a record, or so many at once; False if they are lost."""
        try:
            written = _write(self._fd, line)
        except OSError as error:
            return self._append_in_trouble(line, error, records)
        if written != len(line):
            self._fd, self._is_torn = -1, True
            return self._lose("the disk is full", records)
        self._left -= written
        if self._left <= 0:
            self._look()
        return True

    def close(self) -> None:
        """Close the file; what is appended later is lost."""
        if self._fd >= 0 and os.fstat(self._fd).st_nlink == 0:
            self._note("its folder was deleted")
        self.abandon("the run is finished")

    def abandon(self, reason: str) -> None:
        """Lose every later record, for this reason."""
        kept, self._fd, self._kept, self._closed_reason = self._kept, -1, -1, reason
        if kept >= 0:
            os.close(kept)

    def _append_in_trouble(self, line: bytes, error: OSError, records: int) -> bool:
        if self._kept < 0:
            return self._lose(self._closed_reason, records)
        if self._is_missing and not self._reopen():
            return self._lose("its folder was deleted", records)
        data = b"\n" + line if self._is_torn else line
        try:
            written = _write(self._kept, data)
        except OSError as again:
            self._fd = -1
            return self._lose(again.strerror or error.strerror, records)
        if written != len(data):
            is_newline_only = self._is_torn and written == 1
            self._is_torn = not is_newline_only
            return self._lose("the disk is full", records)
        self._fd, self._is_torn = self._kept, False
        return True

    def _look(self) -> None:
        self._left = _LOOK_BYTES
        if os.fstat(self._kept).st_nlink == 0:
            self._is_missing = True
            if not self._reopen():
                self._fd = -1
                self._note("its folder was deleted")

    def _reopen(self) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            fd = self._open_file()
        except OSError as error:
            self._retry_at = time.monotonic() + 1.0
            self._note(error.strerror)
            return False
        os.dup2(fd, self._kept, inheritable=False)
        os.close(fd)
        self._fd, self._is_torn, self._is_missing = self._kept, False, False
        return True

    def _lose(self, reason: str | None, records: int) -> bool:
        self.lost += records
        self._note(reason)
        return False

    def _note(self, reason: str | None) -> None:
        if self.error is None:
            self.error = reason or "unknown error"
            say(f"records are lost ({self.error}); training goes on. pf.status() counts them.")
