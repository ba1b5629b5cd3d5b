"""Azure Blob Storage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from periflow_server.bucket.fault import clock_skew, refusal
from periflow_server.bucket.page import Listing
from periflow_server.bucket.sas import VERSION, sas_query
from periflow_server.bucket.wire import ask, error_code, size_of, xml_of
from periflow_server.db.base import utcnow

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from periflow_server.bucket.place import Place
    from periflow_server.settings import Settings

_MOST_KEYS = 5000
_LIST_SECONDS = 600


class AzureBucket:
    """A container; see ``page.CloudBucket``. All requests carry signatures of their own (SAS)."""

    def __init__(self, place: Place, settings: Settings) -> None:
        self._place = place
        self._account = place.values["storage_account_name"]
        self._key = place.values["storage_account_key"]
        url = place.endpoint_url or settings.azure_blob_url
        self._url = url.replace("{account}", self._account).rstrip("/")
        self._private = place.endpoint_url is None or settings.private_addresses

    def sign(self, keys: Sequence[str], expires_at: datetime) -> list[str]:
        container = self._place.storage_name
        found = []
        for key in keys:
            url = f"{self._url}/{container}/{quote(key, safe='/-_.~')}"
            found.append(f"{url}?{self._signature(f'{container}/{key}', 'b', 'r', expires_at)}")
        return found

    def list_once(self, prefix: str, *, delimited: bool, cursor: str | None, limit: int) -> Listing:
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
        headers = {"x-ms-version": VERSION}
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
        return sas_query(
            self._account,
            self._key,
            resource,
            may=may,
            kind=kind,
            is_https=self._url.startswith("https:"),
            until=until,
        )


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
