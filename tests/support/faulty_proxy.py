"""A proxy for HTTP that counts bytes, and makes a bad network of a good one."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_PIECE_BYTES = 64 * 1024
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade"})


class FaultyProxy:
    """Passes requests on, with their Host; ``rate`` of them go wrong.

    Args:
        behind: The address of the real server.
        faults: What may go wrong: ``drop``, ``late drop`` (after the server did it), ``delay``,
            ``stall`` (until the client gives up), ``truncate``, and statuses as numbers.
        rate: Which part of the requests.
        seed: Of the moments.
    """

    def __init__(
        self, behind: str, faults: tuple[str, ...] = (), rate: float = 0.0, seed: int = 0
    ) -> None:
        self.behind = urlsplit(behind).netloc
        self.retry_after = "0"
        self.bytes_passed = 0
        self.done: Counter[str] = Counter()
        self.accepted: list[str] = []
        """The paths of what was PUT and got there, in order."""
        self.closing = threading.Event()
        self._plan: Iterator[str] = self._accidents(faults, rate, seed)
        self._lock = threading.Lock()
        self._server = _QuietServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def behaving(self, *faults: str, times: int = 0, retry_after: str = "0") -> Iterator[None]:
        """Within the block so many requests go wrong in these ways, and no others."""
        with self._lock:
            before = self._plan, self.retry_after
            planned = itertools.islice(itertools.cycle(faults), times)
            self._plan = itertools.chain(planned, itertools.repeat(""))
            self.retry_after = retry_after
        try:
            yield
        finally:
            with self._lock:
                self._plan, self.retry_after = before

    def next_fault(self) -> str:
        """What goes wrong with this request; empty for nothing."""
        with self._lock:
            fault = next(self._plan)
            self.done[fault] += 1
            return fault

    def _accidents(self, faults: tuple[str, ...], rate: float, seed: int) -> Iterator[str]:
        """Each fault in turn, at random moments."""
        dice, turn = random.Random(seed), itertools.cycle(faults)
        while True:
            yield next(turn) if faults and dice.random() < rate else ""

    def count(self, size: int) -> None:
        with self._lock:
            self.bytes_passed += size


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that break are what this is for."""


@contextlib.contextmanager
def faulty_proxy(
    behind: str, *faults: str, rate: float = 0.0, seed: int = 0
) -> Iterator[FaultyProxy]:
    """A proxy as long as the block."""
    proxy = FaultyProxy(behind, faults, rate, seed)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            fault = proxy.next_fault()
            length = int(self.headers.get("Content-Length") or 0)
            if fault == "drop":
                self._cut()
                return
            if fault == "stall":
                self._stall()
                return
            if fault == "truncate" and length:
                self.rfile.read(length // 2)
                self._cut()
                return
            body = self.rfile.read(length)
            proxy.count(len(body))
            if fault.isdigit():
                self._say(int(fault))
                return
            if fault == "delay":
                proxy.closing.wait(0.3)
            self._pass_on(body, fault)

        do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_GET

        def _pass_on(self, body: bytes, fault: str) -> None:
            connection = http.client.HTTPConnection(proxy.behind, timeout=60)
            try:
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in _HOP:
                        connection.putheader(name, value)
                connection.endheaders(body or None)
                response = connection.getresponse()
                content = response.read()
            finally:
                connection.close()
            if self.command == "PUT" and response.status < 300:
                proxy.accepted.append(urlsplit(self.path).path)
            if fault == "late drop":
                self._cut()
                return
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in (*_HOP, "content-length", "date", "server"):
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            size = response.getheader("Content-Length", "0") if is_head else str(len(content))
            self.send_header("Content-Length", size)
            self.end_headers()
            proxy.count(len(content))
            if fault == "truncate":
                self.wfile.write(content[: len(content) // 2])
                self._cut()
                return
            for start in range(0, len(content), _PIECE_BYTES):
                self.wfile.write(content[start : start + _PIECE_BYTES])

        def _say(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if status in (429, 503):
                self.send_header("Retry-After", proxy.retry_after)
            self.end_headers()

        def _stall(self) -> None:
            self.connection.settimeout(30)
            with contextlib.suppress(OSError):
                while not proxy.closing.is_set() and self.connection.recv(_PIECE_BYTES):
                    pass
            self._cut()

        def _cut(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
