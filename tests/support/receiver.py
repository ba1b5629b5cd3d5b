"""A real HTTP endpoint on this machine that keeps what is posted to it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Post:
    """One request; header names are lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What to answer. ``hangs``: nothing, until the receiver is closed."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False


class Receiver:
    """Listens on a free port of 127.0.0.1.

    ``replies`` are used up in order, then everything is answered with ``usual``.
    """

    def __init__(self, usual: Reply = Reply()) -> None:
        self.posts: list[Post] = []
        self.replies: list[Reply] = []
        self.usual = usual
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen, on the same port as before."""
        self._end.clear()
        self._server = _Server(("127.0.0.1", self.port), _handler(self._answer))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections from here on."""
        self._end.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def wait_for(self, count: int, seconds: float = 90) -> list[Post]:
        """The posts as soon as there are so many."""
        deadline = time.monotonic() + seconds
        while len(self.posts) < count:
            assert time.monotonic() < deadline, f"{len(self.posts)} posts instead of {count}"
            time.sleep(0.02)
        return list(self.posts)

    def _answer(self, post: Post) -> Reply:
        with self._lock:
            self.posts.append(post)
            reply = self.replies.pop(0) if self.replies else self.usual
        if reply.hangs:
            self._end.wait()
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def _handler(answer: Callable[[Post], Reply]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = answer(Post(self.path, headers, body))
            if reply.hangs:
                return
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
