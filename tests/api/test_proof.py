"""A client that knows the key of an embedded server sends its token to nobody else."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import ServerUnreachableError

if TYPE_CHECKING:
    from conftest import ServerProcess


class Stranger(BaseHTTPRequestHandler):
    """Answers everything, and writes down what it is told."""

    heard: list[str]

    def do_GET(self) -> None:
        self.heard.append(str(self.headers))
        body = json.dumps({"version": "0.2.0", "pid": 1, "embedded": True, "proof": "0" * 64})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[ThreadingHTTPServer]:
    Stranger.heard = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_stranger_on_the_port_gets_no_token(stranger: ThreadingHTTPServer, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(secrets.token_hex(32))
    url = f"http://127.0.0.1:{stranger.server_address[1]}"
    refused = pytest.raises(ServerUnreachableError, match="is not this machine's")
    with ApiClient(url, "pf_jt_secret", tries=1, key_file=key) as client, refused:
        client.me()
    assert len(Stranger.heard) == 1
    assert "pf_jt_secret" not in "".join(Stranger.heard)


def test_server_that_holds_the_key_is_spoken_to(server: ServerProcess) -> None:
    owner = server.client()
    token = owner.session.access_token
    with ApiClient(server.url, token, key_file=server.data_dir / "key") as client:
        assert client.me().username == owner.username
