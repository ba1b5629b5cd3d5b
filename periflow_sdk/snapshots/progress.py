"""How far a transfer is, told to whoever shows it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Given by the caller; every method may be called from any thread. Sizes are bytes."""

    def total(self, size: int, files: int) -> None: ...
    def advance(self, size: int) -> None: ...
    def skipped(self, size: int) -> None: ...


class Silence:
    """Shows nothing."""

    def total(self, size: int, files: int) -> None: ...
    def advance(self, size: int) -> None: ...
    def skipped(self, size: int) -> None: ...


class Meter:
    """Progress of one chunk that may be tried more than once: no byte is told twice."""

    def __init__(self, progress: Progress, size: int) -> None:
        self._progress = progress
        self._size = size
        self._told = 0

    def reach(self, position: int) -> None:
        """So many bytes have passed in this try."""
        position = min(position, self._size)
        if position > self._told:
            self._progress.advance(position - self._told)
            self._told = position

    def finish(self) -> None:
        """All of it is done."""
        self.reach(self._size)
