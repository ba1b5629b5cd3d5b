"""Google Cloud Storage as clients with signed addresses see it.

The server of Google's protocol that can be had here checks nobody and does not speak the XML API.
So this proxy in front of it checks tokens, and the signature, time, length and condition of signed
addresses, and turns what is right into calls of the JSON API.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx
from cloud import Asked, _Account, _gcs_program, _ports, _running
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

_XML = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = _XML.format(code, message).encode()


@contextlib.contextmanager
def google_store(folder: Path, bucket: str) -> Iterator[tuple[str, str]]:
    """Its address, and the text of a key file; with one empty bucket."""
    (port,) = _ports(1)
    behind = f"http://127.0.0.1:{port}"
    command = [_gcs_program(), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "filesystem", "-filesystem-root", str(folder), "-external-url", behind]
    with _running(command, f"{behind}/storage/v1/b?project=p", folder):
        httpx.post(f"{behind}/storage/v1/b?project=p", json={"name": bucket}).raise_for_status()
        account = _Account()
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(account, behind))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        key = {**json.loads(account.key_file()), "token_uri": f"{url}/token"}
        try:
            yield url, json.dumps(key)
        finally:
            server.shutdown()
            server.server_close()


def _handler(account: _Account, behind: str) -> type[BaseHTTPRequestHandler]:
    http = httpx.Client(trust_env=False, timeout=60)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                answer = self._answer(body)
            except _RefusedError as refusal:
                answer = httpx.Response(refusal.status, content=refusal.body)
            content = answer.content
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_POST = do_DELETE = do_GET

        def _answer(self, body: bytes) -> httpx.Response:
            authorization = self.headers.get("Authorization", "")
            if self.path == "/token":
                status, document = account.answer(Asked(self.path, "", body), behind)
                return httpx.Response(status, json=document)
            if self.path.startswith(("/storage/", "/upload/")):
                if authorization != f"Bearer {account._token}":
                    raise _RefusedError(401, "Invalid Credentials")
                return http.request(self.command, behind + self.path, content=body)
            self._check_signature()
            return self._exchange(body)

        def _check_signature(self) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            signature = bytes.fromhex(query.pop("X-Goog-Signature", ""))
            names = query.get("X-Goog-SignedHeaders", "").split(";")
            signed = "".join(f"{name}:{self.headers.get(name, '')}\n" for name in names)
            canonical = "&".join(
                f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query)
            )
            lines = (self.command, parts.path, canonical, signed, ";".join(names))
            digest = sha256("\n".join((*lines, "UNSIGNED-PAYLOAD")).encode()).hexdigest()
            date = query["X-Goog-Date"]
            scope = query["X-Goog-Credential"].partition("/")[2]
            text = "\n".join(("GOOG4-RSA-SHA256", date, scope, digest))
            try:
                account._key.public_key().verify(
                    signature, text.encode(), padding.PKCS1v15(), hashes.SHA256()
                )
            except InvalidSignature:
                raise _RefusedError(403, "SignatureDoesNotMatch") from None
            since = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            if since + timedelta(seconds=int(query["X-Goog-Expires"])) < datetime.now(UTC):
                raise _RefusedError(400, "ExpiredToken", "Request has expired")

        def _exchange(self, body: bytes) -> httpx.Response:
            bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            one = f"{behind}/storage/v1/b/{bucket}/o/{quote(key, safe='')}"
            if self.command == "GET":
                return http.get(one, params={"alt": "media"})
            bounds = re.fullmatch(r"(\d+),(\d+)", self.headers["x-goog-content-length-range"])
            if bounds and not int(bounds[1]) <= len(body) <= int(bounds[2]):
                raise _RefusedError(400, "EntityTooLarge")
            condition = self.headers.get("x-goog-if-generation-match")
            query = {"uploadType": "media", "name": key}
            if condition is not None:
                query["ifGenerationMatch"] = condition
            url = f"{behind}/upload/storage/v1/b/{bucket}/o"
            return http.post(url, params=query, content=body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
