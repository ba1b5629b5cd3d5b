"""Which lines of a job's log are wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_sdk.api.models import LogLine, LogPage

_PAGE_LINES = 10_000


@dataclass(frozen=True)
class Selection:
    """Some lines of a log.

    Attributes:
        content: A text that each of them has; None for any.
        nodes: The node ranks that printed them; None for all.
        count: How many of them; None for all.
        is_first: Whether it is the first of them, not the last.
    """

    content: str | None
    nodes: frozenset[int] | None
    count: int | None
    is_first: bool

    def wanted(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        """Those with the text and of the nodes, in their order, however many."""
        for line in lines:
            is_of_node = self.nodes is None or line.node in self.nodes
            if is_of_node and (self.content is None or self.content in line.text):
                yield line

    def lines(self, connection: Connection, job: int) -> tuple[Iterable[LogLine], bool]:
        """The lines of a job as it is now, and whether it can print no others."""
        if self.content is None and self.nodes is None and not self.is_first and self.count:
            page = _page(connection, job, limit=self.count, tail=True)
            return page.lines, page.complete
        log = _Log(connection, job)
        wanted = self.wanted(log)
        if self.count is None:
            return wanted, True
        if self.is_first:
            return list(islice(wanted, self.count)), True
        return deque(wanted, self.count), log.is_complete


class _Log:
    """All lines that a job has printed until now, read page by page."""

    def __init__(self, connection: Connection, job: int) -> None:
        self._connection = connection
        self._job = job
        self.is_complete = False

    def __iter__(self) -> Iterator[LogLine]:
        cursor = None
        while True:
            page = _page(self._connection, self._job, cursor=cursor, limit=_PAGE_LINES)
            yield from page.lines
            self.is_complete, cursor = page.complete, page.cursor
            if page.complete or not page.lines:
                return


def _page(
    connection: Connection, job: int, *, limit: int, cursor: str | None = None, tail: bool = False
) -> LogPage:
    return connection.client.job_log(
        connection.project.id, job, cursor=cursor, limit=limit, tail=tail
    )
