"""What the tools send to: a sink or SeaweedFS, and a control plane that keeps its files there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_server.bucket.sigv4 import aws_signer
from periflow_server.db.base import utcnow

BUCKET = "bench"
KEY_ID, SECRET, REGION = "AKIABENCHBENCHBENCH1", "a/secret+of/the/benchmark", "us-east-1"
KEYS = {
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}
PASSWORD = "a long enough password"
START_SECONDS = 60
SUPPORT = Path(__file__).parents[2] / "tests/support"


@dataclass(frozen=True)
class Place:
    """A store, and a control plane that uses it."""

    name: str
    endpoint: str
    url: str
    token: str

    def project(self, name: str) -> str:
        """A new project, which has no chunks: everything is sent."""
        with ApiClient(self.url, self.token) as client:
            return client.create_project(client.organizations()[0].id, name).id

    def sign(self, method: str, keys: Sequence[str]) -> list[str]:
        """Addresses for tools that know nothing of keys."""
        return [self._address(method, key) for key in keys]

    def sign_parts(self, key: str, count: int) -> list[str]:
        """Begin an object in parts: the address that completes it, then one for each part."""
        begun = httpx.post(self._address("POST", key, {"uploads": ""})).raise_for_status()
        (number,) = re.findall("<UploadId>([^<]*)</UploadId>", begun.text)
        parts = [{"partNumber": str(part + 1), "uploadId": number} for part in range(count)]
        return [
            self._address("POST", key, {"uploadId": number}),
            *(self._address("PUT", key, part) for part in parts),
        ]

    def _address(self, method: str, key: str, more: Mapping[str, str] | None = None) -> str:
        host, path = urlsplit(self.endpoint).netloc, f"/{BUCKET}/{key}"
        signer = aws_signer(KEY_ID, SECRET, REGION)
        query = signer.query(host, path, utcnow(), 3600, method=method, more=more)
        return f"{self.endpoint}{path}?{query}"

    def clear(self) -> None:
        """Remove all objects."""
        import obstore
        from obstore.store import S3Store

        store = S3Store(
            BUCKET,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=KEY_ID,
            secret_access_key=SECRET,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
        for page in obstore.list(store):
            obstore.delete(store, [item["path"] for item in page])


@contextlib.contextmanager
def sink(folder: Path) -> Iterator[str]:
    """The address of a sink."""
    words = [sys.executable, str(Path(__file__).with_name("sink.py"))]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(10)


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """The address of a SeaweedFS with the bucket.

    Raises:
        FileNotFoundError: it is not installed.
    """
    sys.path.append(str(SUPPORT))
    from seaweed import seaweed_command

    words, url = seaweed_command(folder)
    with _running(words, folder / "weed.log", {**KEYS, "GOGC": "100"}):
        _await(lambda: httpx.get(url, timeout=2).status_code < 500)
        query = aws_signer(KEY_ID, SECRET, REGION).query(
            urlsplit(url).netloc, f"/{BUCKET}", utcnow(), 60, method="PUT"
        )
        httpx.put(f"{url}/{BUCKET}?{query}", timeout=30).raise_for_status()
        yield url


@contextlib.contextmanager
def control_plane(home: Path, endpoint: str = "") -> Iterator[tuple[str, str]]:
    """A server of its own that keeps files at the endpoint, or in its folder; address and token."""
    home.mkdir(mode=0o700)
    variables = {"PERIFLOW_HOME": str(home), **KEYS}
    if endpoint:
        variables["PERIFLOW_SERVER_STORAGE_URL"] = f"s3://{BUCKET}"
        variables["PERIFLOW_SERVER_STORAGE_ENDPOINT"] = endpoint
    words = [sys.executable, "-m", "periflow_server", "serve", "--embedded", "--home", str(home)]
    with _running(words, home / "output.log", variables):
        ready = home / "server/server.json"
        _await(ready.exists)
        url = json.loads(ready.read_text())["url"]
        yield url, _sign_up(url, home)


def _sign_up(url: str, home: Path) -> str:
    with ApiClient(url) as client:
        client.sign_up(
            m.SignupRequest(username="bench", name="B", email="b@example.com", password=PASSWORD)
        )
        (mail,) = (home / "server/outbox").glob("*.eml")
        fields = dict(line.split(": ", 1) for line in mail.read_text().splitlines() if ": " in line)
        code = fields["X-PeriFlow-Code"]
        token = client.confirm_signup(m.SignupConfirmation(username="bench", code=code))
    with ApiClient(url, token.access_token) as client:
        client.create_organization("bench")
    return token.access_token


@contextlib.contextmanager
def _running(words: list[str], log: Path, variables: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env={**os.environ, **variables},
        )
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait(10)


def _await(is_ready: object) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if callable(is_ready) and is_ready():
                return
        time.sleep(0.05)
    raise TimeoutError("a server did not start")
