"""Bulk bytes over HTTP: a bare client that reads into and sends from reused buffers."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Generator, Mapping
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from periflow_sdk.errors import PeriFlowError
from periflow_sdk.snapshots.buffer import Cancelled
from periflow_sdk.snapshots.progress import Meter

PIECE_BYTES = 1024 * 1024
"""What is received, looked at and sent at a time: a processor's cache still has it after."""
_CODE = re.compile(rb"(?:<Code>|\"code\": ?\")([A-Za-z0-9_]{1,80})")
# How S3, Google, Azure and this project's server say that an address is too old.
_EXPIRED = re.compile(
    rb"(?i)has expired|ExpiredToken|specified time frame|not (?:yet valid|valid yet)|TooSkewed"
)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class TransferFault(Exception):  # noqa: N818 - never leaves this package
    """One try has failed.

    Args:
        reason: A few words for the message of the last try.
        status: The answer's HTTP status, or None without an answer.
        corrupt: Whether the bytes came and were the wrong ones.
        code: The store's own word for it, or an empty string.
        wait_seconds: How long the store asks to be left alone.
    """

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        *,
        corrupt: bool = False,
        code: str = "",
        wait_seconds: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.corrupt = corrupt
        self.code = code
        self.wait_seconds = wait_seconds

    @property
    def is_final(self) -> bool:
        """Whether trying again is pointless; an address that is too old can be had anew."""
        return self.status in (400, 401, 405, 411, 413, 501) and self.code != "expired"

    @property
    def is_refusal(self) -> bool:
        """Whether the address was not accepted."""
        return self.status == 403 or self.code == "expired"


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    return urlsplit(url).hostname in _LOOPBACK


class Wire:
    """Sends and fetches chunks; keeps one connection a thread and host.

    Args:
        stall_seconds: How long no byte may pass before a try is given up.
        cancel: Ends everything under way at the next piece, and lets nothing new begin.
    """

    def __init__(self, stall_seconds: float, cancel: threading.Event) -> None:
        self._stall = stall_seconds
        self._cancel = cancel
        self._local = threading.local()
        self._lock = threading.Lock()
        self._handles: dict[HTTPConnection, socket.socket] = {}
        self._tls: ssl.SSLContext | None = None

    def put(self, url: str, headers: Mapping[str, str], body: memoryview, meter: Meter) -> None:
        """PUT the bytes; that they are there already is as good.

        Args:
            headers: What the address was signed with.

        Raises:
            TransferFault: this try has failed.
            Cancelled: the transfer has ended meanwhile.
        """
        parts = urlsplit(url)
        try:
            connection = self._connection(parts)
            self._send(connection, parts, headers, body, meter)
            response = connection.getresponse()
            detail = response.read(4096)
            response.read()
        except (OSError, HTTPException) as error:
            early = self._answer_given_early(parts)
            self._drop(parts)
            raise early or TransferFault(f"sending failed: {_reason(error)}") from error
        except BaseException:
            self._drop(parts)
            raise
        if response.status not in (200, 201, 204, 409, 412):
            raise _refusal(response, detail)

    def get(
        self, url: str, size: int, buffer: memoryview, meter: Meter
    ) -> Generator[memoryview, None, None]:
        """GET exactly as many bytes, piece by piece.

        Args:
            buffer: Where the pieces are put, one behind the other and from its start again; so
                small a one that it stays in the processor's cache will do.

        Yields:
            The next bytes; whoever stops early closes the iterator.

        Raises:
            TransferFault: this try has failed, or the answer has another length.
            Cancelled: the transfer has ended meanwhile.
        """
        parts = urlsplit(url)
        try:
            connection = self._connection(parts)
            connection.request("GET", self._target(parts), headers=_headers(parts))
            response = connection.getresponse()
            if response.status != 200:
                raise _refusal(response, response.read(4096))
            yield from self._receive(response, size, buffer, meter)
        except (OSError, HTTPException) as error:
            self._drop(parts)
            raise TransferFault(f"fetching failed: {_reason(error)}") from error
        except BaseException:
            self._drop(parts)
            raise

    def cut(self) -> None:
        """Once ``cancel`` is set: threads that connect or wait for bytes fail at once."""
        with self._lock:
            for handle in self._handles.values():
                with suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections, once no thread uses one any more."""
        with self._lock:
            for connection, handle in self._handles.items():
                connection.close()
                handle.close()
            self._handles.clear()

    def _send(
        self,
        connection: HTTPConnection,
        parts: SplitResult,
        headers: Mapping[str, str],
        body: memoryview,
        meter: Meter,
    ) -> None:
        connection.putrequest("PUT", self._target(parts), skip_host=True)
        for name, value in {**_headers(parts), **headers}.items():
            connection.putheader(name, value)
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(body.nbytes))
        connection.endheaders()
        # By pieces: a socket's time-out counts for one `sendall` as a whole.
        for start in range(0, body.nbytes, PIECE_BYTES):
            self._check_cancelled()
            connection.send(body[start : start + PIECE_BYTES])
            meter.reach(start)

    def _receive(
        self, response: HTTPResponse, size: int, buffer: memoryview, meter: Meter
    ) -> Generator[memoryview, None, None]:
        if response.length is not None and response.length != size:
            raise TransferFault(f"{response.length} bytes came instead of {size}")
        position = 0
        while position < size:
            self._check_cancelled()
            start = position % buffer.nbytes
            end = min(start + PIECE_BYTES, buffer.nbytes, start + size - position)
            count = response.readinto(buffer[start:end])
            if not count:
                raise TransferFault(f"the answer ended after {position} bytes")
            yield buffer[start : start + count]
            position += count
            meter.reach(position)
        if response.read(1):
            raise TransferFault("the answer is too long")

    def _answer_given_early(self, parts: SplitResult) -> TransferFault | None:
        """What a server said that refused before it had read the body."""
        connection = self._kept().get((parts.scheme, parts.netloc))
        if connection is None or connection.sock is None:
            return None
        try:
            connection.sock.settimeout(1.0)
            response = connection.getresponse()
            return _refusal(response, response.read(4096))
        except (OSError, HTTPException):
            return None

    def _connection(self, parts: SplitResult) -> HTTPConnection:
        kept = self._kept()
        key = (parts.scheme, parts.netloc)
        if key not in kept:
            connection = kept[key] = self._connect(parts)
            connection._create_connection = partial(self._dial, connection)  # type: ignore[attr-defined]
        return kept[key]

    def _dial(
        self, connection: HTTPConnection, address: tuple[str, int], timeout: float, *_: object
    ) -> socket.socket:
        """As `socket.create_connection`, but `cut` ends it from the first moment on."""
        fault = OSError(f"{address[0]} has no address")
        for family, kind, protocol, _name, place in socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM
        ):
            dialled = socket.socket(family, kind, protocol)
            try:
                self._hold(connection, dialled)
                dialled.settimeout(timeout)
                dialled.connect(place)
                self._check_cancelled()
                return dialled
            except OSError as error:
                fault = error
                dialled.close()
            except BaseException:
                dialled.close()
                raise
        raise fault

    def _hold(self, connection: HTTPConnection, dialled: socket.socket) -> None:
        """Keep a handle of this socket: TLS and `http.client` hide the socket they work on."""
        with self._lock:
            self._check_cancelled()
            if before := self._handles.get(connection):
                before.close()
            self._handles[connection] = dialled.dup()

    def _connect(self, parts: SplitResult) -> HTTPConnection:
        host, port = parts.hostname or "", parts.port
        proxy = _proxy(parts)
        if parts.scheme == "https":
            self._tls = self._tls or ssl.create_default_context()
            if proxy is None:
                return HTTPSConnection(host, port, timeout=self._stall, context=self._tls)
            secure = HTTPSConnection(
                proxy.hostname or "", proxy.port, timeout=self._stall, context=self._tls
            )
            secure.set_tunnel(host, port or 443)
            return secure
        if parts.scheme != "http":
            raise PeriFlowError(f"The store's address has the scheme {parts.scheme!r}.")
        if proxy is None:
            return HTTPConnection(host, port, timeout=self._stall)
        return HTTPConnection(proxy.hostname or "", proxy.port, timeout=self._stall)

    def _target(self, parts: SplitResult) -> str:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "http" and _proxy(parts) is not None:
            return f"http://{parts.netloc}{path}"
        return path

    def _drop(self, parts: SplitResult) -> None:
        connection = self._kept().pop((parts.scheme, parts.netloc), None)
        if connection is not None:
            connection.close()
            with self._lock:
                if handle := self._handles.pop(connection, None):
                    handle.close()

    def _kept(self) -> dict[tuple[str, str], HTTPConnection]:
        if not hasattr(self._local, "kept"):
            self._local.kept = {}
        kept: dict[tuple[str, str], HTTPConnection] = self._local.kept
        return kept

    def _check_cancelled(self) -> None:
        if self._cancel.is_set():
            raise Cancelled


def _refusal(response: HTTPResponse, body: bytes) -> TransferFault:
    found = _CODE.search(body)
    code = found[1].decode() if found else ""
    if _EXPIRED.search(body):
        code = "expired"
    try:
        wait = max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        wait = 0.0
    word = f" ({code})" if code else ""
    reason = f"the store answered {response.status}{word}"
    return TransferFault(reason, response.status, code=code, wait_seconds=wait)


def _headers(parts: SplitResult) -> dict[str, str]:
    return {"Host": parts.netloc.rpartition("@")[2], "Accept-Encoding": "identity"}


def _proxy(parts: SplitResult) -> SplitResult | None:
    host = parts.hostname or ""
    if host in _LOOPBACK or proxy_bypass(host):
        return None
    address = getproxies().get(parts.scheme)
    return urlsplit(address if "://" in address else f"http://{address}") if address else None


def _reason(error: Exception) -> str:
    return str(error) or error.__class__.__name__
