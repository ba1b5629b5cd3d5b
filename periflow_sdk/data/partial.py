"""A file on its way into the cache, in parts that a later process goes on from."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from periflow_sdk._boot import boot_id
from periflow_sdk.snapshots.store import write_all


class PartialFile:
    """``.<name>.part`` beside the target, and which of its parts are there already.

    Whoever uses it holds the lock of the unit. What was written before the machine went down is
    not trusted.

    Args:
        target: What shall appear.
        size: Its bytes.
        starts: Where its parts begin, in order.
    """

    def __init__(self, target: Path, size: int, starts: Sequence[int]) -> None:
        self._target = target
        self._size = size
        self._starts = starts
        self.path = target.with_name(f".{target.name}.part")
        self._state_path = target.with_name(f".{target.name}.parts")
        self._lock = threading.Lock()
        self._finished = self._remembered()

    def __enter__(self) -> PartialFile:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, self._size)
        self._state = os.open(
            self._state_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        if not os.fstat(self._state).st_size:
            os.write(self._state, self._header)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)
        os.close(self._state)
        if kind is None:
            self.path.chmod(0o644)
            self.path.rename(self._target)
            self._state_path.unlink()

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Start and end of every part that is not there yet."""
        return [
            (start, end)
            for start, end in pairwise((*self._starts, self._size))
            if start not in self._finished
        ]

    def write(self, start: int, content: memoryview) -> None:
        """Keep a whole part.

        Raises:
            OSError: the disk is full or broken.
        """
        write_all(self._file, content, start)
        self.finish(start)

    def finish(self, start: int) -> None:
        """Remember that the part that starts there was written."""
        with self._lock:
            self._finished.add(start)
            os.write(self._state, b"%d\n" % start)

    @property
    def _header(self) -> bytes:
        return f"{boot_id()} {self._size} {len(self._starts)}\n".encode()

    def _remembered(self) -> set[int]:
        try:
            header, *lines = self._state_path.read_bytes().split(b"\n")
            if header + b"\n" == self._header and self.path.stat().st_size == self._size:
                return {int(line) for line in lines[:-1]}  # the last is empty, or torn
        except (OSError, ValueError):
            pass
        self._state_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        return set()
