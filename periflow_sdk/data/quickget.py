"""Small GETs at little cost: HTTP by hand over kept connections; in the helper process alone.

A client for everything takes several times the processor time of the store's own work for an
object of some kB. This one knows only the answer that nearly always comes. For anything else it
has none, and its caller asks the client that retries, waits and explains.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import ssl
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

_PATIENCE_SECONDS = 20.0
_FAILURES, _REST_SECONDS = 8, 60.0
_HEADER_BYTES = 64 * 1024
_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 20[06] ")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,15})\r\n", re.IGNORECASE)
_NOT_PLAIN = re.compile(rb"\r\n(?:transfer-encoding|content-encoding):", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class QuickGet:
    """GETs of signed addresses of one store, each over a connection of its own meanwhile.

    After some failures one behind the other it rests for a minute: a store that is out of reach,
    or overloaded, or answers in another way is left to the client that knows what to do.
    """

    def __init__(self) -> None:
        self._idle: list[_Connection] = []
        self._failures = 0
        self._rests_until = 0.0
        self._tls: ssl.SSLContext | None = None
        self._variables = {name.lower() for name, value in os.environ.items() if value}

    @property
    def is_usable(self) -> bool:
        """Whether it is worth asking."""
        return time.monotonic() >= self._rests_until

    async def get(
        self, url: str, headers: Mapping[str, str], start: int, end: int
    ) -> memoryview | None:
        """These bytes of an object; None where another client has to ask.

        Args:
            url: Signed for a GET.
            headers: Sent with it.
            start: The first byte.
            end: Behind the last one; not before ``start``.
        """
        scheme, _, place = url.partition("://")
        host, _, target = place.partition("/")
        lines = {"Host": host, **headers, "Range": f"bytes={start}-{end - 1}"}
        request = f"GET /{target} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in lines.items()
        )
        try:
            connection = self._idle.pop() if self._idle else await self._connect(scheme, host)
            answer = await connection.ask(f"{request}\r\n".encode("ascii"))
        except (OSError, ValueError):
            answer = None
        else:
            if connection.is_open:
                self._idle.append(connection)
        if answer is None or len(answer) != end - start:
            self._failures += 1
            if self._failures >= _FAILURES:
                self._rests_until = max(self._rests_until, time.monotonic() + _REST_SECONDS)
            return None
        self._failures = 0
        return answer

    async def _connect(self, scheme: str, host: str) -> _Connection:
        if not self._variables.isdisjoint((f"{scheme}_proxy", "all_proxy")):
            self._rests_until = math.inf
            raise ConnectionError("by way of a proxy")
        if scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        place = urlsplit(f"//{host}")
        connecting = asyncio.get_running_loop().create_connection(
            lambda: _Connection(self._idle),
            place.hostname or "",
            place.port or {"http": 80, "https": 443}[scheme],
            ssl=self._tls,
        )
        _, connection = await asyncio.wait_for(connecting, _PATIENCE_SECONDS)
        return connection


class _Connection(asyncio.Protocol):
    """One request after the other.

    Args:
        idle: Where it is found as long as it waits for the next one; it leaves when it ends.
    """

    def __init__(self, idle: list[_Connection]) -> None:
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[memoryview | None] | None = None
        self._content = b""
        self._start = self._end = 0
        self.is_open = True

    def ask(self, request: bytes) -> asyncio.Future[memoryview | None]:
        """The content of the answer; None for another answer than a plain one."""
        self._content, self._end = b"", 0
        answer = self._answer = self._loop.create_future()
        self._timer = self._loop.call_later(_PATIENCE_SECONDS, self._transport.abort)
        self._transport.write(request)
        return answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # that nobody has asked for
            self._transport.abort()
            return
        self._content = self._content + data if self._content else data
        if not self._end and not self._has_header():
            return
        if len(self._content) == self._end:
            self._finish(memoryview(self._content)[self._start :])
        elif len(self._content) > self._end:
            self._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self in self._idle:
            self._idle.remove(self)
        self._finish(None)

    def _has_header(self) -> bool:
        """Whether the header is there and the content may come."""
        at = self._content.find(_END)
        if at < 0:
            if len(self._content) > _HEADER_BYTES:
                self._give_up()
            return False
        header = self._content[: at + 2]
        length = _LENGTH.search(header)
        if length is None or not _STATUS.match(header) or _NOT_PLAIN.search(header):
            self._give_up()
            return False
        if _CLOSES.search(header):
            self.is_open = False
        self._start = at + len(_END)
        self._end = self._start + int(length[1])
        return True

    def _give_up(self) -> None:
        self.is_open = False
        self._transport.abort()
        self._finish(None)

    def _finish(self, content: memoryview | None) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        self._timer.cancel()
        if not self.is_open:
            self._transport.close()
        if not answer.done():
            answer.set_result(content)
