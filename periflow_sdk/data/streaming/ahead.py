"""Files on their way to the local disk before their samples are wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue

from periflow_sdk.data.streaming.order import Block, Order

FETCHES = 8  # at once, in each process
AHEAD_BYTES = 64_000_000
AHEAD_FILES = 2


class Ahead:
    """Fetches whole files in threads: those of the window that is read, and what follows it.

    The process that hands out batches does this for all its workers, which only wait for files.
    Where another sampler does that, each worker does it for itself, and begins with other files.

    Args:
        fetch: Brings a file here, or knows that it is here.
        blocks: All of the data set.
        worker: Which of how many workers this is.
        workers: How many there are.
    """

    def __init__(
        self,
        fetch: Callable[[str], Path],
        blocks: Sequence[Block],
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self._fetch = fetch
        self._blocks = blocks
        self._worker, self._workers = worker, workers
        self._threads = _Threads(fetch)
        self._coming: dict[str, Future[Path]] = {}
        self._reached: tuple[Order, int] | None = None

    def reach(self, order: Order, place: int, stop: int) -> None:
        """A sample is wanted soon.

        Args:
            order: Of its epoch.
            place: Of the sample in the order.
            stop: Where this process's samples end.
        """
        window = order.window_number(place)
        if self._reached is None or self._reached != (order, window):
            self._reached = order, window
            self._want(self._files(order, place, stop))

    def path(self, path: str) -> Path:
        """A file on the local disk; waits for it.

        Raises:
            PeriFlowError: It cannot be fetched, also not at a second try.
        """
        coming = self._coming.pop(path, None)
        if coming is None or coming.cancel() or coming.exception() is not None:
            return self._fetch(path)
        return coming.result()

    def _files(self, order: Order, place: int, stop: int) -> Iterable[str]:
        needed: dict[str, None] = {}
        ahead: dict[str, None] = {}
        size = 0
        for before, numbers in order.blocks_from(place, stop):
            files = ahead if needed else needed
            for n, number in enumerate(numbers, before):
                block = self._blocks[number]
                if block.path is None:
                    return ()
                if files is needed or n % self._workers == self._worker:
                    files[block.path] = None
                    size += block.size if files is ahead else 0
            if size >= AHEAD_BYTES and len(ahead) >= AHEAD_FILES:
                break
        return needed | ahead

    def _want(self, paths: Iterable[str]) -> None:
        """These come next, in this order; what was wanted before and has not begun is left."""
        wanted = dict.fromkeys(paths)
        for path in [path for path in self._coming if path not in wanted]:
            self._coming.pop(path).cancel()
        for path in wanted:
            if path not in self._coming:
                self._coming[path] = self._threads.submit(path)


class _Threads:
    """Fetch what is asked for; a process that ends does not wait for what nobody will read."""

    def __init__(self, fetch: Callable[[str], Path]) -> None:
        self._fetch = fetch
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._count = 0

    def submit(self, path: str) -> Future[Path]:
        if self._count < FETCHES:
            self._count += 1
            arguments = (self._fetch, self._asked)
            threading.Thread(
                target=_work, args=arguments, name="periflow-ahead", daemon=True
            ).start()
        answer: Future[Path] = Future()
        self._asked.put((path, answer))
        return answer

    def __del__(self) -> None:
        for _ in range(self._count):
            self._asked.put(None)


_Asked = tuple[str, Future[Path]]


def _work(fetch: Callable[[str], Path], asked: SimpleQueue[_Asked | None]) -> None:
    while (one := asked.get()) is not None:
        path, answer = one
        if not answer.set_running_or_notify_cancel():
            continue
        try:
            answer.set_result(fetch(path))
        except BaseException as error:
            answer.set_exception(error)
