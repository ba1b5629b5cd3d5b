"""A small store of chunks that goes wrong on order."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from blake3 import blake3

from periflow_sdk.errors import PeriFlowError
from periflow_sdk.snapshots import Manifest


@dataclass
class Faults:
    """What goes wrong, by chunk hash; ``any`` stands for whatever comes next."""

    expire: int = 0
    unavailable: int = 0
    corrupt: Counter[str] = field(default_factory=Counter)
    cut_short: int = 0
    stall: int = 0
    forget_at_commit: set[str] = field(default_factory=set)


class ChunkServer:
    """Keeps chunks in files; ``direct`` announces their paths."""

    def __init__(self, root: Path, *, direct: bool = False) -> None:
        self.root = root
        self.direct = direct
        self.faults = Faults()
        self.puts: list[str] = []
        self.gets: list[str] = []
        self.manifests: dict[str, bytes] = {}
        self.generation = 0
        self.released = threading.Event()
        self.held = threading.Event()
        self.holds_questions = False
        self._passing: threading.Semaphore | None = None
        self._pass_on = True
        self._lock = threading.Lock()
        self._http = _QuietServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()

    def hold_after(self, count: int) -> None:
        """Let so many chunks pass and keep every further one waiting; sets ``held`` then."""
        self._passing = threading.Semaphore(count)

    def let_go(self, *, pass_on: bool) -> None:
        """No more waiting; what waited passes or comes to nothing."""
        self._passing, self._pass_on = None, pass_on
        self.released.set()

    def may_pass(self) -> bool:
        """Wait where `hold_after` says so; False when this request shall come to nothing."""
        if self._passing is None or self._passing.acquire(blocking=False):
            return True
        self.held.set()
        self.released.wait(60)
        return self._pass_on

    def path(self, name: str) -> Path:
        return self.root / "p" / name[:2] / name

    def stored(self) -> set[str]:
        return {path.name for path in self.root.glob("p/??/*") if not path.name.startswith(".")}

    def take(self, fault: str) -> bool:
        """Whether this fault strikes now."""
        with self._lock:
            left: int = getattr(self.faults, fault)
            if left > 0:
                setattr(self.faults, fault, left - 1)
            return left > 0

    def location(self, name: str) -> dict[str, Any]:
        url = f"/blobs/{name}?generation={self.generation}"
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return {"hash": name, "url": url, "path": os.fspath(path) if self.direct else None}

    def commit(self, data: bytes) -> tuple[int, dict[str, Any]]:
        try:
            manifest = Manifest.parse(data)
        except PeriFlowError as error:
            return 422, {"detail": error.message, "code": error.code}
        for name in self.faults.forget_at_commit:
            self.path(name).unlink()
        self.faults.forget_at_commit = set()
        lost = [chunk.hash for chunk in manifest.chunks if not self.path(chunk.hash).exists()]
        if lost:
            return 409, {"detail": "gone", "code": "chunks_missing", "data": {"missing": lost}}
        self.manifests[manifest.id] = data
        return 200, {
            "id": manifest.id,
            "size": manifest.size,
            "file_count": manifest.file_count,
            "created_at": "2026-01-01T00:00:00Z",
        }


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed in the middle are what these tests are about."""


def _handler(server: ChunkServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self._body()
            if self.path.endswith("/snapshots"):
                status, document = server.commit(body)
                return self._answer(status, json.dumps(document).encode())
            names = [item["hash"] for item in json.loads(body)["chunks"]]
            if server.holds_questions and not server.may_pass():
                self.close_connection = True
                return None
            if self.path.endswith("/missing"):
                names = [name for name in names if not server.path(name).exists()]
            chunks = [server.location(name) for name in names]
            return self._answer(200, json.dumps({"chunks": chunks}).encode())

        def do_PUT(self) -> None:
            body = self._body()
            name = self._chunk()
            if name is None:
                return
            if blake3(body).hexdigest() != name:
                self._answer(422, b"wrong bytes")
                return
            temporary = server.path(name).with_name(f".{name}.{threading.get_ident()}")
            temporary.write_bytes(body)
            temporary.rename(server.path(name))
            server.puts.append(name)
            self._answer(201, b"")

        def do_GET(self) -> None:
            if self.path.endswith("/manifest"):
                snapshot = self.path.split("/")[-2]
                self._answer(200, server.manifests[snapshot])
                return
            name = self._chunk()
            if name is None:
                return
            content = server.path(name).read_bytes()
            server.gets.append(name)
            if server.faults.corrupt[name] > 0:
                server.faults.corrupt[name] -= 1
                content = bytes([content[0] ^ 1]) + content[1:]
            self._answer(200, content)

        def _chunk(self) -> str | None:
            """The chunk asked for, unless this request is one that fails."""
            parts = urlsplit(self.path)
            expired = parse_qs(parts.query)["generation"] != [str(server.generation)]
            if server.take("expire"):
                server.generation += 1
                expired = True
            if expired:
                self._answer(403, b"expired")
            elif server.take("unavailable"):
                self._answer(503, b"busy")
            elif not server.may_pass():
                self.close_connection = True
            elif server.take("stall"):
                server.released.wait(60)
                self.close_connection = True
            elif server.take("cut_short"):
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                self.wfile.write(b"short")
                self.close_connection = True
            else:
                return parts.path.rpartition("/")[2]
            return None

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler
