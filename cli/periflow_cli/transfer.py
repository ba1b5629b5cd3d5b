"""Progress bars of uploads and downloads: bytes, rate and time left, on a terminal only."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from periflow_cli.moment import size_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


# Sooner than this a rate is noise.
_QUIET_SECONDS = 0.5


class Bar:
    """The `Progress` of one transfer, shown while the ``with`` block runs.

    ``moved`` and ``spared`` count the bytes that went over the wire and those that were there.

    Args:
        size: Bytes in all, as far as is known before it starts.
    """

    def __init__(self, verb: str, size: int) -> None:
        self._verb = verb
        self._size = size
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None
        self.moved = 0
        self.spared = 0

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            self._rich = _bar()
            self._task = self._rich.add_task(self._verb, total=self._size)
            self._rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._rich is not None:
            self._rich.stop()

    def total(self, size: int, files: int) -> None:
        """How much there is in all."""
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, total=size)

    def advance(self, size: int) -> None:
        """So many more bytes went over the wire."""
        with self._lock:
            self.moved += size
        self._show(size)

    def skipped(self, size: int) -> None:
        """So many bytes were there already."""
        with self._lock:
            self.spared += size
        self._show(size)

    def summary(self) -> str:
        """``in 2.1 s, 14.8 MB/s``, and what was there already."""
        seconds = max(time.monotonic() - self._start, 0.001)
        text = f"in {seconds:.1f} s"
        if self.moved and seconds >= _QUIET_SECONDS:
            text += f", {size_text(int(self.moved / seconds))}/s"
        if self.spared:
            there = f"{size_text(self.spared)} of it" if self.moved else "all of it"
            text += f"; {there} was there already"
        return text

    def _show(self, size: int) -> None:
        if self._rich is not None and self._task is not None:
            self._rich.advance(self._task, size)


def _bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    def is_early(task: Task) -> bool:
        return (task.elapsed or 0.0) < _QUIET_SECONDS

    class Rate(TransferSpeedColumn):
        def render(self, task: Task) -> Text:
            return Text() if is_early(task) else super().render(task)

    class TimeLeft(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            return Text() if is_early(task) else super().render(task)

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        Rate(),
        TimeLeft(),
        console=Console(stderr=True),
        transient=True,
    )
