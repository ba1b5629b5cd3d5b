"""Real stores of S3 and Azure on this machine, which check signatures, and HTTP endpoints."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from seaweed import free_ports, seaweed_command

START_SECONDS = 120
# What the project's scripts install beside the Python that runs comes first.
_PLACES = (Path(sys.prefix) / "bin", Path(sys.prefix) / "node" / "node_modules" / ".bin")
_PATH = os.pathsep.join((*map(str, _PLACES), os.environ.get("PATH", os.defpath)))
S3_KEY, S3_SECRET = "AKIATESTTESTTESTTEST", "the+secret/of+the/key"
# Of the account that every Azurite has; its manual prints it.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@contextlib.contextmanager
def _running(command: list[str], url: str, folder: Path, **variables: str) -> Iterator[str]:
    """The address of a server that runs as long as the block."""
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "PATH": _PATH, **variables},
            start_new_session=True,
        )
    try:
        _await_answer(process, url, folder)
        yield url
    finally:
        process.kill()
        process.wait(60)


def _await_answer(process: subprocess.Popen[bytes], url: str, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=20, trust_env=False).status_code < 500:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError((folder / "output.log").read_text(errors="replace"))
        time.sleep(0.05)


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS that knows one key."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    try:
        command, address = seaweed_command(folder)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET}
    with _running(command, address, folder, **keys) as url:
        yield url


@pytest.fixture(scope="session")
def azure_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An Azurite with its usual account; accounts are below its address, not before it."""
    azurite = shutil.which("azurite-blob", path=_PATH)
    if azurite is None:
        pytest.skip("Azurite is not installed: scripts/install-node-packages.sh")
    folder = tmp_path_factory.mktemp("azurite")
    (port,) = free_ports(1)
    command = [azurite, "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    command += ["--location", str(folder), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with _running(command, f"http://127.0.0.1:{port}", folder) as url:
        yield f"{url}/{{account}}"


@dataclass
class Asked:
    """One request that an endpoint got."""

    path: str
    authorization: str
    body: bytes
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Endpoint:
    """An HTTP endpoint of a test: answers as it is told, and remembers what it was asked."""

    url: str
    answer: Callable[[Asked], tuple[int, Any]]
    asked: list[Asked] = field(default_factory=list)


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed or give up are what some tests are about."""


@contextlib.contextmanager
def endpoint_of(answer: Callable[[Asked], tuple[int, Any]]) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            authorization = self.headers.get("Authorization", "")
            body = self.rfile.read(length)
            asked = Asked(self.path, authorization, body, self.command, self.headers)
            endpoint.asked.append(asked)
            status, document = endpoint.answer(asked)
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status in (301, 302, 307):
                self.send_header("Location", f"{endpoint.url}/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = _QuietServer(("127.0.0.1", 0), Handler)
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}", answer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Answers 200 and {} until a test says otherwise."""
    with endpoint_of(lambda _: (200, {})) as found:
        yield found


def fill_s3(url: str, bucket: str, files: Mapping[str, bytes]) -> None:
    """Make a bucket with these objects."""
    import obstore
    from obstore.store import S3Store

    def sign(key: str) -> str:
        # The first path of an object store is its bucket; nothing of it is part of the name.
        return obstore.sign(store, "PUT", key, timedelta(minutes=5))

    store = S3Store(
        bucket,
        endpoint=url,
        access_key_id=S3_KEY,
        secret_access_key=S3_SECRET,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    httpx.put(sign(""), trust_env=False).raise_for_status()
    for key, data in files.items():
        obstore.put(store, key, data)


def fill_azure(url: str, container: str, files: Mapping[str, bytes]) -> None:
    """Make a container with these blobs."""
    from azure.storage.blob import BlobServiceClient

    address = url.replace("{account}", AZURE_ACCOUNT)
    client = BlobServiceClient(
        address, credential={"account_name": AZURE_ACCOUNT, "account_key": AZURE_KEY}
    )
    with client, client.create_container(container) as made:
        for key, data in files.items():
            made.upload_blob(key, data)
