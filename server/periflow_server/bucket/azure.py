"""Azure Blob Storage."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from periflow_sdk.api import models as m
from periflow_server.bucket.fault import clock_skew, refusal
from periflow_server.bucket.page import Listing, gather
from periflow_server.bucket.wire import ask, error_code, size_of, xml_of
from periflow_server.db.base import utcnow

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from periflow_server.bucket.place import Place
    from periflow_server.settings import Settings

_VERSION = "2020-12-06"
_MOST_KEYS = 5000
_LIST_SECONDS = 600


class AzureBucket:
    """A container; see ``page.Bucket``. All requests carry signatures of their own (SAS)."""

    def __init__(self, place: Place, settings: Settings) -> None:
        self._place = place
        self._account = place.values["storage_account_name"]
        self._key = b64decode(place.values["storage_account_key"])
        url = place.endpoint_url or settings.azure_blob_url
        self._url = url.replace("{account}", self._account).rstrip("/")
        self._private = place.endpoint_url is None or settings.private_addresses

    def page(
        self, folder: str, *, recursive: bool, cursor: str | None, limit: int
    ) -> m.DatasetPage:
        return gather(
            self._list,
            self._place.base,
            folder,
            recursive=recursive,
            cursor=cursor,
            limit=limit,
        )

    def sign(self, paths: Sequence[str], expires_at: datetime) -> list[str]:
        container = self._place.storage_name
        found = []
        for path in paths:
            key = self._place.base + path
            url = f"{self._url}/{container}/{quote(key, safe='/-_.~')}"
            found.append(f"{url}?{self._signature(f'{container}/{key}', 'b', 'r', expires_at)}")
        return found

    def _list(self, prefix: str, *, delimited: bool, cursor: str | None, limit: int) -> Listing:
        query = {
            "restype": "container",
            "comp": "list",
            "prefix": prefix,
            "maxresults": str(min(limit, _MOST_KEYS)),
        }
        if delimited:
            query["delimiter"] = "/"
        if cursor is not None:
            query["marker"] = cursor
        until = utcnow() + timedelta(seconds=_LIST_SECONDS)
        signature = self._signature(self._place.storage_name, "c", "rl", until)
        wanted = urlencode(query, quote_via=quote)
        url = f"{self._url}/{self._place.storage_name}?{wanted}&{signature}"
        headers = {"x-ms-version": _VERSION}
        answer = ask(self._place, url, headers, private=self._private)
        if answer.status != 200:
            code, text = error_code(answer.body)
            if "time frame" in text:
                raise clock_skew(self._place)
            if "failed to authenticate" in text:
                code = "AuthenticationFailed"
            raise refusal(self._place, answer, code or answer.headers.get("x-ms-error-code", ""))
        return _listing(self._place, answer.body)

    def _signature(self, resource: str, kind: str, may: str, until: datetime) -> str:
        """The query that lets anybody use a resource until then.

        Args:
            kind: ``c`` for the container, ``b`` for one blob.
            may: The rights: ``r`` to read, ``l`` to list.
        """
        expiry = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        protocol = "https" if self._url.startswith("https:") else "https,http"
        fields = [may, "", expiry, f"/blob/{self._account}/{resource}", "", "", protocol, _VERSION]
        fields += [kind, *("",) * 7]
        digest = hmac.digest(self._key, "\n".join(fields).encode(), "sha256")
        query = {"sp": may, "se": expiry, "spr": protocol, "sv": _VERSION, "sr": kind}
        return urlencode({**query, "sig": b64encode(digest).decode()}, quote_via=quote)


def _listing(place: Place, body: bytes) -> Listing:
    root = xml_of(place, body)
    listing = Listing(following=root.findtext("NextMarker") or None)
    for each in root.iterfind("Blobs/Blob"):
        size = size_of(place, each.findtext("Properties/Content-Length"))
        etag = (each.findtext("Properties/Etag") or "").strip('"')
        # With a hierarchical name space folders are listed like files.
        if each.findtext("Properties/ResourceType") != "directory":
            listing.objects.append((_name(each), size, etag or None))
    for each in root.iterfind("Blobs/BlobPrefix"):
        listing.folders.append(_name(each))
    return listing


def _name(element: Element) -> str:
    return element.findtext("Name") or ""
