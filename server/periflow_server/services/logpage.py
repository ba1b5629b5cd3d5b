"""Pages of a job's log: its attempts one after the other, the nodes of each by time."""

from __future__ import annotations

import base64
import heapq
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from periflow_sdk.api import models as m
from periflow_sdk.errors import InvalidRequestError
from periflow_server.db.attempt import LIVE, Attempt, attempts_of, nodes_of
from periflow_server.db.base import Session
from periflow_server.db.job import Job
from periflow_server.db.log import stream_end
from periflow_server.services.log import pieces, tail_offset
from periflow_server.services.text import Line, lines
from periflow_server.storage.store import Store

_LARGEST_PAGE_BYTES = 4 << 20
_LONGEST_OUTPUT = 1 << 53


@dataclass
class _Position:
    """How far a reader is: an attempt, and an offset in the output of each of its nodes."""

    attempt: int = 1
    offsets: dict[int, int] = field(default_factory=dict)

    def encoded(self) -> str:
        text = json.dumps([self.attempt, sorted(self.offsets.items())], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decoded(cls, cursor: str) -> _Position:
        try:
            attempt, offsets = json.loads(base64.urlsafe_b64decode(cursor + "=="))
            found = {int(node): int(offset) for node, offset in offsets}
            if all(0 <= offset < _LONGEST_OUTPUT for offset in found.values()):
                return cls(int(attempt), found)
        except (ValueError, TypeError, OverflowError, RecursionError):
            pass
        raise InvalidRequestError("This cursor is not one of a log.")


class LogReader:
    """Reads the log of one job within one session.

    Args:
        job: Read before anything else of this session: what it says of the end stays true.
    """

    def __init__(self, session: Session, store: Store, job: Job) -> None:
        self._session = session
        self._store = store
        self._job = job
        self._attempts = {attempt.number: attempt for attempt in attempts_of(session, job.id)}

    def page(self, cursor: str | None, limit: int) -> m.LogPage:
        """The lines after ``cursor``, or from the start."""
        position = _Position.decoded(cursor) if cursor else _Position()
        found: list[m.LogLine] = []
        over = not self._attempts
        while (attempt := self._attempts.get(position.attempt)) is not None:
            found += self._take(attempt, position, limit - len(found))
            over = self._is_over(attempt, position)
            following = position.attempt + 1
            if not over or following not in self._attempts:
                break
            position = _Position(following)
            over = False
        return self._answer(found, position, over)

    def tail(self, limit: int) -> m.LogPage:
        """The last ``limit`` lines."""
        found: list[m.LogLine] = []
        position, over = _Position(), not self._attempts
        for attempt in reversed(self._attempts.values()):
            end = _Position(attempt.number)
            own = self._last(attempt, end, limit - len(found))
            if attempt.number == max(self._attempts):
                position, over = end, self._is_over(attempt, end)
            found[:0] = own
            if len(found) >= limit:
                break
        return self._answer(found, position, over)

    def _answer(self, found: list[m.LogLine], position: _Position, over: bool) -> m.LogPage:
        return m.LogPage(
            lines=found,
            cursor=position.encoded(),
            complete=over and self._job.status in m.TERMINAL_STATUSES,
            status=self._job.status,
        )

    def _take(self, attempt: Attempt, position: _Position, limit: int) -> list[m.LogLine]:
        """Up to ``limit`` lines of an attempt; moves the position behind them."""
        streams = [
            self._stream(attempt, node, position.offsets.get(node, 0))
            for node in self._nodes(attempt)
        ]
        merged = heapq.merge(*streams, key=lambda item: item[1].time)
        found: list[m.LogLine] = []
        size = 0
        for node, line in islice(merged, max(0, limit)):
            found.append(_shown(attempt, node, line))
            position.offsets[node] = line.end
            size += len(line.text)
            if size >= _LARGEST_PAGE_BYTES:
                break
        return found

    def _last(self, attempt: Attempt, end: _Position, limit: int) -> list[m.LogLine]:
        """The last ``limit`` lines of an attempt; moves ``end`` behind the last."""
        found: list[tuple[int, Line]] = []
        for node in self._nodes(attempt):
            start = tail_offset(self._session, self._store, attempt.id, node, limit)
            own = deque(self._stream(attempt, node, start), maxlen=max(0, limit))
            end.offsets[node] = own[-1][1].end if own else start
            found += own
        found.sort(key=lambda item: item[1].time)
        return [_shown(attempt, node, line) for node, line in found[-limit:]]

    def _stream(self, attempt: Attempt, node: int, offset: int) -> Iterator[tuple[int, Line]]:
        ended = attempt.status not in LIVE
        blocks = pieces(self._session, self._store, attempt.id, node, offset)
        return ((node, line) for line in lines(blocks, offset, ended=ended))

    def _is_over(self, attempt: Attempt, position: _Position) -> bool:
        return attempt.status not in LIVE and all(
            position.offsets.get(node, 0) >= stream_end(self._session, attempt.id, node)
            for node in self._nodes(attempt)
        )

    def _nodes(self, attempt: Attempt) -> list[int]:
        return [node.rank for node in nodes_of(self._session, attempt.id)]


def _shown(attempt: Attempt, node: int, line: Line) -> m.LogLine:
    time = datetime.fromtimestamp(line.time, UTC)
    return m.LogLine(time=time, attempt=attempt.number, node=node, text=line.text)
