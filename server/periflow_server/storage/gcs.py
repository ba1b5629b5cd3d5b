"""Google Cloud Storage: its JSON API for the server, signed addresses for clients."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx

from periflow_sdk.errors import ApiError, UsageError
from periflow_server.bucket.sigv4 import google_signer
from periflow_server.db.base import utcnow
from periflow_server.storage.deletion import delete_each
from periflow_server.storage.fault import fault
from periflow_server.storage.store import ANSWER_SECONDS, Method, SignedUrl
from periflow_server.verification.gcs import account_of, sign_in

if TYPE_CHECKING:
    from periflow_server.settings import Settings

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_TOKEN_SECONDS = 1800  # Google's hold for an hour
_TRIES = 6
_PASSING = frozenset({408, 429, 500, 502, 503, 504})


def open_bucket(name: str, settings: Settings) -> GcsBucket:
    """A bucket, with a service account's key file.

    Raises:
        UsageError: there is no key file, or it is none.
    """
    path = settings.storage_key_file or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    try:
        document = json.loads(Path(path or "").read_text())
        account = account_of(document, _SCOPE)
    except (OSError, ValueError, ApiError) as error:
        raise UsageError(
            f"The key file of a service account for gs://{name} is missing or wrong.",
            hint="Name it in PERIFLOW_SERVER_STORAGE_KEY_FILE or GOOGLE_APPLICATION_CREDENTIALS.",
        ) from error
    endpoint = (settings.storage_endpoint or "https://storage.googleapis.com").rstrip("/")
    public = (settings.storage_public_endpoint or endpoint).rstrip("/")
    return GcsBucket(name, document, account, endpoint, public)


class GcsBucket:
    """See ``objectstore.Bucket``.

    Args:
        document: The key file; it says where to sign in.
        account: What google-auth made of it.
        public: Where clients reach the service.
    """

    def __init__(
        self, name: str, document: dict[str, Any], account: Any, endpoint: str, public: str
    ) -> None:
        self._address = f"gs://{name}"
        self._name = name
        self._document = document
        self._objects = f"{endpoint}/storage/v1/b/{quote(name, safe='')}/o"
        self._uploads = f"{endpoint}/upload/storage/v1/b/{quote(name, safe='')}/o"
        self._public = public
        self._signer = google_signer(str(account.signer_email), account.signer.sign)
        self._http = httpx.Client(timeout=httpx.Timeout(ANSWER_SECONDS, connect=5))
        self._lock = threading.Lock()
        self._token = ""
        self._token_until = 0.0

    def put(self, key: str, data: bytes) -> None:
        query = {"uploadType": "media", "name": key}
        self._ask("POST", self._uploads, params=query, content=data)

    def get(self, key: str) -> bytes:
        return self._ask("GET", self._url(key), params={"alt": "media"}).content

    def size(self, key: str) -> int | None:
        try:
            return int(self._ask("GET", self._url(key), params={"fields": "size"}).json()["size"])
        except FileNotFoundError:
            return None

    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        query = {"prefix": folder, "maxResults": "1000", "fields": "nextPageToken,items(name,size)"}
        while True:
            try:
                page = self._ask("GET", self._objects, params=query).json()
            except FileNotFoundError:
                raise fault(self._address, 404, "") from None
            for item in page.get("items", ()):
                yield str(item["name"]), int(item["size"])
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def delete(self, keys: Collection[str]) -> None:
        delete_each(keys, self._delete)

    def sign(
        self, method: Method, key: str, size: int, seconds: int, *, replace: bool
    ) -> SignedUrl:
        headers = {}
        if method == "PUT":
            headers["x-goog-content-length-range"] = f"{size},{size}"
            if not replace:
                headers["x-goog-if-generation-match"] = "0"
        parts = urlsplit(self._public)
        path = quote(f"{parts.path}/{self._name}/{key}", safe="/-_.~")
        query = self._signer.query(
            parts.netloc, path, utcnow(), seconds, method=method, headers=headers
        )
        return SignedUrl(f"{parts.scheme}://{parts.netloc}{path}?{query}", headers)

    def _delete(self, key: str) -> None:
        try:
            self._ask("DELETE", self._url(key))
        except FileNotFoundError:
            pass

    def _url(self, key: str) -> str:
        return f"{self._objects}/{quote(key, safe='')}"

    def _ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        """The answer, after further tries where these may help.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: there was none, or it says no.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        for number in range(_TRIES):
            try:
                headers = {"Authorization": f"Bearer {self._current_token(renew=number > 0)}"}
                answer = self._http.request(method, url, headers=headers, **options)
            except httpx.TransportError:
                if number + 1 == _TRIES or time.monotonic() > deadline:
                    raise fault(self._address, 0, "") from None
            else:
                if answer.is_success:
                    return answer
                if answer.status_code == 404 and "bucket" not in answer.text.lower():
                    raise FileNotFoundError(url)
                passing = answer.status_code in _PASSING
                stale = answer.status_code == 401 and number == 0
                if number + 1 == _TRIES or not (passing or stale):
                    raise fault(self._address, answer.status_code, "")
            time.sleep(0.1 * 2**number if number else 0)
        raise AssertionError("the last try returns or raises")

    def _current_token(self, *, renew: bool) -> str:
        with self._lock:
            if renew or time.monotonic() > self._token_until:
                try:
                    self._token = sign_in(self._http, self._document, _SCOPE)
                except ApiError as error:
                    refused = error.code == "credential_refused"
                    detail = str(error.data.get("detail", ""))
                    raise fault(self._address, 401 if refused else 0, "", detail) from error
                self._token_until = time.monotonic() + _TOKEN_SECONDS
            return self._token
