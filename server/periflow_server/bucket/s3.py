"""S3, and what speaks its language."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus, urlsplit

from periflow_server.bucket.fault import refusal
from periflow_server.bucket.page import Listing
from periflow_server.bucket.sigv4 import aws_signer, query_text
from periflow_server.bucket.wire import ask, error_code, size_of, xml_of
from periflow_server.db.base import utcnow

if TYPE_CHECKING:
    from periflow_server.bucket.place import Place
    from periflow_server.settings import Settings

_MOST_KEYS = 1000
_REGION = b"<Region>"


class S3Bucket:
    """See ``page.CloudBucket``."""

    def __init__(self, place: Place, settings: Settings) -> None:
        self._place = place
        region = place.region or place.values["aws_default_region"]
        self._url = place.endpoint_url or settings.s3_url or s3_address(region)
        self._private = place.endpoint_url is None or settings.private_addresses
        self._signer = aws_signer(
            place.values["aws_access_key_id"], place.values["aws_secret_access_key"], region
        )

    def sign(self, keys: Sequence[str], expires_at: datetime) -> list[str]:
        now = utcnow()
        seconds = max(1, int((expires_at - now).total_seconds()))
        found = []
        for key in keys:
            origin, host, whole = self._address(key)
            found.append(f"{origin}{whole}?{self._signer.query(host, whole, now, seconds)}")
        return found

    def list_once(self, prefix: str, *, delimited: bool, cursor: str | None, limit: int) -> Listing:
        query = {
            "list-type": "2",
            "encoding-type": "url",
            "prefix": prefix,
            "max-keys": str(min(limit, _MOST_KEYS)),
        }
        if delimited:
            query["delimiter"] = "/"
        if cursor is not None:
            query["continuation-token"] = cursor
        origin, host, path = self._address("")
        headers = self._signer.headers(host, path, query, utcnow())
        url = f"{origin}{path}?{query_text(query)}"
        answer = ask(self._place, url, headers, private=self._private)
        if answer.status != 200:
            code, _ = error_code(answer.body)
            _, _, rest = answer.body.partition(_REGION)
            region = rest.partition(b"<")[0].decode("ascii", "replace")
            raise refusal(
                self._place, answer, code, answer.headers.get("x-amz-bucket-region") or region
            )
        return _listing(self._place, answer.body)

    def _address(self, key: str) -> tuple[str, str, str]:
        """The origin, host and path of an object, or of the bucket itself."""
        parts = urlsplit(self._url)
        path = f"{parts.path.rstrip('/')}/{self._place.storage_name}/{key}"
        return f"{parts.scheme}://{parts.netloc}", parts.netloc, quote(path, safe="/-_.~")


def s3_address(region: str) -> str:
    """Where AWS has S3 in a region."""
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _listing(place: Place, body: bytes) -> Listing:
    root = xml_of(place, body)
    listing = Listing(following=root.findtext("NextContinuationToken") or None)
    if root.findtext("IsTruncated") != "true":
        listing.following = None
    for each in root.iterfind("Contents"):
        key = unquote_plus(each.findtext("Key") or "")
        etag = (each.findtext("ETag") or "").strip('"')
        listing.objects.append((key, size_of(place, each.findtext("Size")), etag or None))
    for each in root.iterfind("CommonPrefixes"):
        listing.folders.append(unquote_plus(each.findtext("Prefix") or ""))
    return listing
