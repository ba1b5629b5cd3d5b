"""Files on their way to the local disk before their samples are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

FETCHES = 8  # at once, in each process


class Ahead:
    """Fetches whole files in threads.

    Args:
        fetch: Brings a file here, or knows that it is here.
    """

    def __init__(self, fetch: Callable[[str], Path]) -> None:
        self._fetch = fetch
        self._pool = ThreadPoolExecutor(FETCHES, "periflow-ahead")
        self._coming: dict[str, Future[Path]] = {}

    def want(self, paths: Iterable[str]) -> None:
        """These come next, in this order; what was wanted before and has not begun is left."""
        wanted = dict.fromkeys(paths)
        for path in [path for path in self._coming if path not in wanted]:
            self._coming.pop(path).cancel()
        for path in wanted:
            if path not in self._coming:
                self._coming[path] = self._pool.submit(self._fetch, path)

    def path(self, path: str) -> Path:
        """A file on the local disk; waits for it.

        Raises:
            PeriFlowError: It cannot be fetched, also not at a second try.
        """
        coming = self._coming.pop(path, None)
        if coming is None or coming.cancel() or coming.exception() is not None:
            return self._fetch(path)
        return coming.result()
