"""Google Cloud Storage, by its JSON API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from periflow_sdk.api.models.credential import service_account
from periflow_sdk.errors import InvalidRequestError
from periflow_server.bucket.fault import (
    clock_skew,
    not_understood,
    refusal,
    unknown_key,
    unreachable,
)
from periflow_server.bucket.page import Listing
from periflow_server.bucket.sigv4 import google_signer
from periflow_server.bucket.wire import ask, size_of
from periflow_server.db.base import utcnow
from periflow_server.verification.gcs import account_of, sign_in
from periflow_server.verification.verdict import open_client

if TYPE_CHECKING:
    from periflow_server.bucket.place import Place
    from periflow_server.settings import Settings

_MOST_KEYS = 1000
_FIELDS = "nextPageToken,prefixes,items(name,size,etag,md5Hash,generation)"
_LONGEST_SECONDS = 7 * 24 * 3600


class GcsBucket:
    """See ``page.CloudBucket``."""

    def __init__(self, place: Place, settings: Settings) -> None:
        self._place = place
        self._url = (place.endpoint_url or settings.gcs_url).rstrip("/")
        self._private = place.endpoint_url is None or settings.private_addresses
        document = service_account(place.values["service_account_key"])
        # What the key file says of where to sign in is not followed: it could name any address.
        self._document = {**document, "token_uri": settings.google_token_url}

    def sign(self, keys: Sequence[str], expires_at: datetime) -> list[str]:
        account = account_of(self._document)
        signer = google_signer(str(account.signer_email), account.signer.sign)
        now = utcnow()
        seconds = max(1, min(_LONGEST_SECONDS, int((expires_at - now).total_seconds())))
        parts = urlsplit(self._url)
        found = []
        for key in keys:
            path = f"{parts.path.rstrip('/')}/{self._place.storage_name}/{key}"
            whole = quote(path, safe="/-_.~")
            query = signer.query(parts.netloc, whole, now, seconds)
            found.append(f"{parts.scheme}://{parts.netloc}{whole}?{query}")
        return found

    def list_once(self, prefix: str, *, delimited: bool, cursor: str | None, limit: int) -> Listing:
        query = {"prefix": prefix, "maxResults": str(min(limit, _MOST_KEYS)), "fields": _FIELDS}
        if delimited:
            query["delimiter"] = "/"
        if cursor is not None:
            query["pageToken"] = cursor
        bucket = quote(self._place.storage_name, safe="")
        url = f"{self._url}/storage/v1/b/{bucket}/o?{urlencode(query, quote_via=quote)}"
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = ask(self._place, url, headers, private=self._private)
        if answer.status != 200:
            raise refusal(self._place, answer, "")
        return self._listing(answer.body)

    def _listing(self, body: bytes) -> Listing:
        try:
            document: dict[str, Any] = json.loads(body)
            objects = [
                (str(item["name"]), size_of(self._place, str(item["size"])), _etag(item))
                for item in document.get("items", [])
            ]
            folders = [str(each) for each in document.get("prefixes", [])]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise not_understood(self._place) from None
        return Listing(objects, folders, document.get("nextPageToken") or None)

    @cached_property
    def _token(self) -> str:
        try:
            with open_client() as http:
                return sign_in(http, self._document)
        except InvalidRequestError as error:
            if "timeframe" in str(error.data.get("detail", "")):
                raise clock_skew(self._place) from None
            if error.code == "credential_refused":
                raise unknown_key(self._place, str(error.data.get("reason", ""))) from None
            raise unreachable(self._place, error) from None


def _etag(item: dict[str, Any]) -> str | None:
    """What changes with the content: the generation counts every write."""
    return str(item.get("generation") or item.get("etag") or item.get("md5Hash") or "") or None
