"""The quick way to small objects of a bucket in S3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from periflow_sdk.data.fetchprocess import Span
from periflow_sdk.data.quickget import QuickGet, Wanted
from periflow_sdk.data.s3signature import S3Signature, quoted


class QuickS3:
    """Objects below a prefix, while they are what was listed.

    Args:
        url: Of the store.
        region: Where the bucket lies.
        bucket: Its name.
        prefix: A folder of it; empty for all.
        secret: The fields of the credential.
    """

    def __init__(
        self, url: str, region: str, bucket: str, prefix: str, secret: Mapping[str, str]
    ) -> None:
        scheme, host, path, _, _ = urlsplit(url)
        self._get = QuickGet(f"{scheme}://{host}")
        root = "/".join(part for part in (bucket, prefix.strip("/")) if part)
        self._root = f"{path.rstrip('/')}/{quoted(root)}/"
        self._signature = S3Signature(
            host, region, secret["aws_access_key_id"], secret["aws_secret_access_key"]
        )

    async def read(self, spans: Sequence[Span]) -> Sequence[memoryview | None]:
        """Bytes of each; None for those that another client has to be asked for.

        Args:
            spans: At least one.
        """
        if not self._get.is_usable:
            return [None] * len(spans)
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        return await self._get.get([self._wanted(span, now) for span in spans])

    def _wanted(self, span: Span, now: str) -> Wanted:
        target = self._root + quoted(span.path)
        condition = f"If-Match: {span.etag}\r\n" if span.etag is not None else ""
        header = self._signature.header(target, now) + condition
        return Wanted(target, header, span.start, span.end)
