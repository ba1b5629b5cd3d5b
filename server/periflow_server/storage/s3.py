"""S3, and what speaks its language."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from periflow_server.bucket.sigv4 import aws_signer
from periflow_server.db.base import utcnow
from periflow_server.storage.remote import RemoteBucket, Sign, options
from periflow_server.storage.store import Method, SignedUrl

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential, S3Store

    from periflow_server.settings import Settings

_SAFE = "/-_.~"


def open_bucket(name: str, settings: Settings) -> RemoteBucket:
    """A bucket, with the key of the settings, of ``AWS_...``, or of the machine's own role."""
    region = (
        settings.storage_region
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or "us-east-1"
    )
    endpoint = settings.storage_endpoint or os.environ.get("AWS_ENDPOINT_URL_S3")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL")
    key_id = settings.storage_key_id or os.environ.get("AWS_ACCESS_KEY_ID", "")
    secret = settings.storage_secret or os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    own = settings.storage_key_id is not None
    token = None if own else os.environ.get("AWS_SESSION_TOKEN")

    def key() -> S3Credential:
        return {
            "access_key_id": key_id,
            "secret_access_key": secret,
            "token": token,
            "expires_at": None,
        }

    def store(url: str | None) -> S3Store:
        from obstore.store import S3Store

        config: S3Config = {
            "region": region,
            "virtual_hosted_style_request": url is None,
            # The chunks have hashes of their own.
            "unsigned_payload": True,
        }
        if url:
            config["endpoint"] = url
        provider = key if key_id else None
        return S3Store(name, config=config, credential_provider=provider, **options(url))

    public = settings.storage_public_endpoint or endpoint
    sign: Sign
    if key_id:
        sign = _Signer(name, public, region, key_id, secret, token)
    else:
        sign = _LibrarySigner(store(public))
    return RemoteBucket(store(endpoint), f"s3://{name}", sign, has_bulk_delete=True)


class _Signer:
    """Addresses for one object of exactly this size, that is not there yet."""

    def __init__(
        self,
        bucket: str,
        endpoint: str | None,
        region: str,
        key_id: str,
        secret: str,
        token: str | None,
    ) -> None:
        parts = urlsplit(endpoint or f"https://{bucket}.s3.{region}.amazonaws.com")
        folder = f"{parts.path.rstrip('/')}/{bucket}/" if endpoint else "/"
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc
        self._folder = folder
        self._token = {"X-Amz-Security-Token": token} if token else {}
        self._signer = aws_signer(key_id, secret, region)

    def __call__(
        self, method: Method, key: str, size: int, seconds: int, replace: bool
    ) -> SignedUrl:
        sent = {}
        bound = {}
        if method == "PUT":
            sent = {} if replace else {"If-None-Match": "*"}
            bound = {"content-length": str(size), **{n.lower(): v for n, v in sent.items()}}
        path = quote(self._folder + key, safe=_SAFE)
        query = self._signer.query(
            self._host, path, utcnow(), seconds, method=method, headers=bound, more=self._token
        )
        return SignedUrl(f"{self._base}{path}?{query}", sent)


class _LibrarySigner:
    """Addresses signed with a role's passing key: bound to the object only."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def __call__(
        self, method: Method, key: str, size: int, seconds: int, replace: bool
    ) -> SignedUrl:
        import obstore

        url = obstore.sign(self._store, method, key, timedelta(seconds=seconds))
        is_new = method == "PUT" and not replace
        return SignedUrl(url, {"If-None-Match": "*"} if is_new else {})
