"""Small GETs at little cost: HTTP by hand over kept connections; in the helper process alone.

A client for everything takes several times the processor time of the store's own work for an
object of some kB. This one knows only the answer that nearly always comes. For anything else it
has none, and its caller asks the client that retries, waits and explains.
"""

from __future__ import annotations

import asyncio
import math
import os
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

_LANES = 64
_PATIENCE_SECONDS = 20.0
_FAILURES, _REST_SECONDS = 8, 60.0
_HEADER_BYTES = 64 * 1024
_END = b"\r\n\r\n"
_GOOD = (b"http/1.1 206 ", b"http/1.1 200 ")
_LENGTH = b"\r\ncontent-length:"
_NOT_PLAIN = (b"\r\ntransfer-encoding:", b"\r\ncontent-encoding:")
_CLOSES = b"\r\nconnection: close"


class Wanted(NamedTuple):
    """Bytes of an object, from ``start`` to before ``end``, which is behind it.

    ``target`` is its path at the store; ``header`` has whole lines that are sent with it.
    """

    target: str
    header: str
    start: int
    end: int


class _Asked(NamedTuple):
    """A request as it is sent, the bytes it shall bring, and where these go."""

    request: bytes
    size: int
    answers: _Answers
    number: int

    def answer(self, content: memoryview | None) -> None:
        self.answers.put(self.number, content)


class QuickGet:
    """GETs from one store, over lanes: connections that each take one request after the other.

    After some failures one behind the other it rests for a minute: a store that is out of reach,
    or overloaded, or answers in another way is left to the client that knows what to do.

    Args:
        origin: The store: ``https://host`` or ``http://host:port``.
    """

    def __init__(self, origin: str) -> None:
        self._scheme, _, self._host = origin.partition("://")
        self._queue: deque[_Asked] = deque()
        self._lanes: set[_Lane] = set()
        self._idle: list[_Lane] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_watched = False
        self._failures = 0
        self._rests_until = 0.0
        self._tls: ssl.SSLContext | None = None
        variables = {name.lower() for name, value in os.environ.items() if value}
        if not variables.isdisjoint((f"{self._scheme}_proxy", "all_proxy")):
            self._rests_until = math.inf

    @property
    def is_usable(self) -> bool:
        """Whether it is worth asking."""
        return time.monotonic() >= self._rests_until

    async def get(self, wanted: Sequence[Wanted]) -> list[memoryview | None]:
        """What is wanted, in its order; None where another client has to ask.

        Args:
            wanted: At least one.
        """
        if not self.is_usable:
            return [None] * len(wanted)
        answers = _Answers(len(wanted))
        self._queue += [
            _Asked(self._request(each), each.end - each.start, answers, number)
            for number, each in enumerate(wanted)
        ]
        while self._idle and self._queue:
            self._idle.pop().ask(self._queue.popleft())
        self._open_lanes()
        self._watch()
        return await answers.whole

    def began(self, lane: _Lane) -> None:
        """A lane may take requests."""
        self._lanes.add(lane)
        self.next_after(lane)

    def next_after(self, lane: _Lane) -> None:
        """Give a lane its next request, once there is one."""
        if self._queue:
            lane.ask(self._queue.popleft())
        else:
            self._idle.append(lane)

    def succeeded(self) -> None:
        """A request was answered as it should be."""
        self._failures = 0

    def failed(self) -> None:
        """A request has no answer; after many, what waits for a lane has none either."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self._rests_until = max(self._rests_until, time.monotonic() + _REST_SECONDS)
            while self._queue:
                self._queue.popleft().answer(None)

    def ended(self, lane: _Lane) -> None:
        """A lane takes no more requests."""
        self._lanes.discard(lane)
        if lane in self._idle:
            self._idle.remove(lane)
        if self._queue:
            self._open_lanes()

    def _request(self, wanted: Wanted) -> bytes:
        target, header, start, end = wanted
        first = f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\n"
        return f"{first}{header}Range: bytes={start}-{end - 1}\r\n\r\n".encode()

    def _open_lanes(self) -> None:
        many = min(len(self._queue), _LANES - len(self._lanes)) - len(self._connecting)
        for _ in range(many):
            task = asyncio.get_running_loop().create_task(self._open_lane())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _open_lane(self) -> None:
        try:
            if self._scheme == "https" and self._tls is None:
                self._tls = ssl.create_default_context()
            place = urlsplit(f"//{self._host}")
            connecting = asyncio.get_running_loop().create_connection(
                lambda: _Lane(self),
                place.hostname or "",
                place.port or {"http": 80, "https": 443}[self._scheme],
                ssl=self._tls,
            )
            await asyncio.wait_for(connecting, _PATIENCE_SECONDS)
        except (OSError, ValueError):
            if self._queue:
                self._queue.popleft().answer(None)
            self.failed()
            asyncio.get_running_loop().call_soon(self._open_lanes)

    def _watch(self) -> None:
        """Now and then, end the lanes that are not answered: one timer for all of them."""
        if not self._is_watched:
            self._is_watched = True
            asyncio.get_running_loop().call_later(_PATIENCE_SECONDS / 4, self._look)

    def _look(self) -> None:
        self._is_watched = False
        before = asyncio.get_running_loop().time() - _PATIENCE_SECONDS
        for lane in list(self._lanes):
            lane.end_if_asked(before)
        if self._queue or len(self._idle) < len(self._lanes):
            self._watch()


class _Answers:
    """Contents as they come; ``whole`` has them when each is there, or known not to come."""

    def __init__(self, many: int) -> None:
        loop = asyncio.get_running_loop()
        self.whole: asyncio.Future[list[memoryview | None]] = loop.create_future()
        self._contents: list[memoryview | None] = [None] * many
        self._missing = many

    def put(self, number: int, content: memoryview | None) -> None:
        self._contents[number] = content
        self._missing -= 1
        if not self._missing and not self.whole.done():
            self.whole.set_result(self._contents)


class _Lane(asyncio.Protocol):
    """A connection, and the one request that is under way on it.

    Args:
        owner: Has the next request, and is told how each one went.
    """

    def __init__(self, owner: QuickGet) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._asked: _Asked | None = None
        self._asked_at = 0.0
        self._content = b""
        self._start = self._end = 0
        self._is_open = True

    def ask(self, asked: _Asked) -> None:
        """Send a request; there is none under way."""
        if not self._is_open:
            asked.answer(None)
            return
        self._content, self._end = b"", 0
        self._asked, self._asked_at = asked, self._loop.time()
        self._transport.write(asked.request)

    def end_if_asked(self, before: float) -> None:
        """Give up what was asked for before that time."""
        if self._asked is not None and self._asked_at <= before:
            self._give_up()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._owner.began(self)

    def data_received(self, data: bytes) -> None:
        if self._asked is None:  # that nobody has asked for
            self._give_up()
            return
        self._content = self._content + data if self._content else data
        if not self._end and not self._has_header():
            return
        if len(self._content) == self._end:
            self._finish(memoryview(self._content)[self._start :])
        elif len(self._content) > self._end:
            self._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._finish(None)

    def _has_header(self) -> bool:
        """Whether the header is there and the content may come."""
        assert self._asked is not None
        at = self._content.find(_END)
        if at < 0:
            if len(self._content) > _HEADER_BYTES:
                self._give_up()
            return False
        header = self._content[: at + 2].lower()
        _, _, length = header.partition(_LENGTH)
        is_plain = header.startswith(_GOOD) and not any(each in header for each in _NOT_PLAIN)
        if not is_plain or length.partition(b"\r\n")[0].strip() != b"%d" % self._asked.size:
            self._give_up()
            return False
        if _CLOSES in header:
            self._is_open = False
        self._start = at + len(_END)
        self._end = self._start + self._asked.size
        return True

    def _give_up(self) -> None:
        self._is_open = False
        self._transport.abort()
        self._finish(None)

    def _finish(self, content: memoryview | None) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.answer(content)
            if content is None:
                self._owner.failed()
            else:
                self._owner.succeeded()
        if self._is_open:
            self._owner.next_after(self)
        else:
            self._transport.close()
            self._owner.ended(self)
