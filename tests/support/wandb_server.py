"""As much of the HTTP API of W&B as one run needs; it can refuse the key, and it can hang."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


class WandbServer:
    """A service that keeps the history of runs.

    Attributes:
        behaviour: What it does with requests from now on.
        history: The rows of each run, by their place in its history.
        resumed: The runs that were resumed.
        configs: The newest config of each run.
        keys: The keys that were shown.
        asked: The names of all queries.
    """

    def __init__(self) -> None:
        self.behaviour: Literal["well", "refuses", "hangs"] = "well"
        self.history: dict[str, dict[int, dict[str, Any]]] = {}
        self.resumed: list[str] = []
        self.exits: dict[str, list[int]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.keys: set[str] = set()
        self.asked: list[str] = []
        self.over = threading.Event()
        self.url = ""

    def rows(self, run: str) -> list[dict[str, Any]]:
        """The history of a run, in order."""
        return [row for _, row in sorted(self.history.get(run, {}).items())]

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            return self._stream(found[1], body)
        if path != "/graphql":
            return {}  # telemetry
        query, variables = str(body.get("query", "")), body.get("variables") or {}
        name = (re.findall(r"(?:query|mutation)\s+(\w+)", query) or ["?"])[0]
        self.asked.append(name)
        return {"data": self._graphql(name, variables)}

    def _graphql(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        if name == "RunResumeStatus":
            return {"model": self._resume(variables["name"])}
        if name == "UpsertBucket":
            run = variables["name"]
            self.configs[run] = json.loads(variables.get("config") or "{}")
            self.history.setdefault(run, {})
            bucket = {"id": run, "name": run, "displayName": run, "sweepName": None}
            project = {"name": variables.get("project"), "entity": {"name": "team"}}
            bucket |= {"project": project, "historyLineCount": len(self.history[run])}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": each, "uploadUrl": f"{self.url}/put"} for each in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        return {"viewer": {"id": "v", "entity": "team", "username": "ada", "flags": "{}"}}

    def _resume(self, run: str) -> dict[str, Any]:
        model: dict[str, Any] = {"id": "m", "name": "p", "entity": {"id": "e", "name": "team"}}
        if run not in self.history:
            return {**model, "bucket": None}
        self.resumed.append(run)
        rows = self.rows(run)
        last = rows[-1] if rows else {}
        tail = json.dumps([json.dumps(last)]) if rows else "[]"
        bucket = {
            "id": run,
            "name": run,
            "displayName": run,
            "createdAt": "2026-01-01T00:00:00Z",
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(last),
            "config": json.dumps(self.configs.get(run, {})),
            "tags": [],
            "wandbConfig": '{"t": 1}',
        }
        return {**model, "bucket": bucket}

    def _stream(self, run: str, body: dict[str, Any]) -> dict[str, Any]:
        if "exitcode" in body:
            self.exits.setdefault(run, []).append(body["exitcode"])
        chunk = (body.get("files") or {}).get("wandb-history.jsonl")
        if chunk:
            rows = self.history.setdefault(run, {})
            for n, line in enumerate(chunk["content"]):
                rows[chunk["offset"] + n] = json.loads(line)
        return {}


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


@contextmanager
def serve_wandb() -> Iterator[WandbServer]:
    """Serve on a free port."""
    service = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._reply({})

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            service.keys.add(self.headers.get("Authorization") or "")
            if service.behaviour == "hangs":
                service.over.wait()
                self.close_connection = True
            elif service.behaviour == "refuses":
                self._reply({"errors": [{"message": "permission denied"}]}, 401)
            else:
                self._reply(service.answer(self.path, _parsed(data)))

        def _reply(self, document: dict[str, Any], status: int = 200) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                pass  # clients are killed

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.over.set()
        server.shutdown()
        server.server_close()
