"""Following a job's log until the job ends, through restarts of the server."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from periflow_cli.connection import Connection, reopen
from periflow_sdk.errors import PeriFlowError, ServerUnreachableError

if TYPE_CHECKING:
    from periflow_cli.output import Output
    from periflow_sdk.api.models import JobDetail, LogLine, LogPage

T = TypeVar("T")

_WAIT_SECONDS = 15.0
_PAGE_LINES = 10_000
# More objects than a page has: the collector need not walk them, they go with their page.
_COLLECT_AT = 200_000
_PATIENCE_SECONDS = 600.0
_PENDING = frozenset({"waiting", "allocating", "preparing"})


class Follower:
    """Reads one job's log to its end.

    Args:
        connection: Where it runs; replaced when it breaks.
        job: The number of the job.
        output: Told on stderr what it waits for.
    """

    def __init__(self, connection: Connection, job: int, output: Output) -> None:
        self._connection = connection
        self._client = connection.open_client(tries=1)
        self._job = job
        self._output = output
        self._cursor: str | None = None
        self._said = ""
        # While a job is pending its reason may change without a line of log.
        self._wait_seconds = 1.0

    def pages(self, tail: int | None = None) -> Iterator[list[LogLine]]:
        """The lines as they come, each once; ends when the job has ended and all is there.

        Args:
            tail: Start with the last so many lines; None starts at the first.

        Raises:
            ServerUnreachableError: nobody has answered for ten minutes.
        """
        gc.set_threshold(_COLLECT_AT)
        if tail is not None:
            page = self._through(lambda: self._page(limit=tail, tail=True))
            yield page.lines
            self._cursor = page.cursor
            if page.complete:
                return
        while True:
            page = self._through(lambda: self._page(limit=_PAGE_LINES, tail=False))
            yield page.lines
            self._cursor = page.cursor
            if page.complete:
                return
            pending = page.status in _PENDING
            self._wait_seconds = 2.0 if pending else _WAIT_SECONDS
            if pending and not page.lines:
                self._say_why()

    def job(self) -> JobDetail:
        """The job as it is now."""
        return self._through(lambda: self._client.job(self._connection.project.id, self._job))

    def _page(self, *, limit: int, tail: bool) -> LogPage:
        return self._client.job_log(
            self._connection.project.id,
            self._job,
            cursor=self._cursor,
            limit=limit,
            tail=tail,
            wait_seconds=0 if tail else self._wait_seconds,
        )

    def _say_why(self) -> None:
        job = self.job()
        last = job.events[-1].message if job.events else ""
        text = f"Job {job.number} is {job.status}: {job.reason or last or 'no reason given'}"
        if job.status in _PENDING and text != self._said:
            self._said = text
            self._output.note(text)

    def _through(self, call: Callable[[], T]) -> T:
        """Call until it is answered; after a break, over a fresh connection."""
        broken_at: float | None = None
        pause = 0.2
        while True:
            try:
                if broken_at is not None:
                    self._reconnect()
                result = call()
            except ServerUnreachableError:
                now = time.monotonic()
                if broken_at is None:
                    broken_at = now
                    self._output.note("The server does not answer; waiting for it.")
                elif now - broken_at > _PATIENCE_SECONDS:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            if broken_at is not None:
                self._output.note("The server answers again.")
            return result

    def _reconnect(self) -> None:
        if self._connection.local is None:
            return
        project = self._connection.project
        try:
            fresh = reopen(self._connection, self._output.note)
        except ServerUnreachableError:
            raise
        except PeriFlowError as error:
            raise ServerUnreachableError(error.message, hint=error.hint) from error
        fresh.project = project
        self._client.close()
        self._connection = fresh
        self._client = fresh.open_client(tries=1)
