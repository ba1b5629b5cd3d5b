"""Azure Blob Storage."""

from __future__ import annotations

import os
from base64 import b64decode
from binascii import Error as Base64Error
from datetime import timedelta
from urllib.parse import quote

from periflow_sdk.errors import UsageError
from periflow_server.bucket.sas import sas_query
from periflow_server.db.base import utcnow
from periflow_server.settings import Settings
from periflow_server.storage.remote import RemoteBucket, options
from periflow_server.storage.store import Method, SignedUrl


def open_bucket(account: str, container: str, settings: Settings) -> RemoteBucket:
    """A container, with the key of the settings or of ``AZURE_STORAGE_ACCOUNT_KEY``.

    Raises:
        UsageError: there is no key.
    """
    from obstore.store import AzureStore

    key = settings.storage_secret or os.environ.get("AZURE_STORAGE_ACCOUNT_KEY")
    key = key or os.environ.get("AZURE_STORAGE_KEY", "")
    if not _is_key(key):
        raise UsageError(
            f"The key of the storage account {account} is {'no key' if key else 'missing'}.",
            hint="Set PERIFLOW_SERVER_STORAGE_SECRET or AZURE_STORAGE_ACCOUNT_KEY.",
        )
    endpoint = settings.storage_endpoint or f"https://{account}.blob.core.windows.net"
    store = AzureStore(
        container,
        account_name=account,
        account_key=key,
        endpoint=endpoint,
        use_emulator=False,
        **options(endpoint),
    )
    public = settings.storage_public_endpoint or endpoint
    sign = _Signer(public.rstrip("/"), account, container, key)
    return RemoteBucket(store, f"az://{account}/{container}", sign, has_bulk_delete=False)


class _Signer:
    """Addresses with a signature for one blob (SAS); those for a PUT can create it only."""

    def __init__(self, endpoint: str, account: str, container: str, key: str) -> None:
        self._endpoint = endpoint
        self._account = account
        self._container = container
        self._key = key

    def __call__(
        self, method: Method, key: str, size: int, seconds: int, replace: bool
    ) -> SignedUrl:
        may = "r" if method == "GET" else "w" if replace else "c"
        query = sas_query(
            self._account,
            self._key,
            f"{self._container}/{key}",
            may=may,
            kind="b",
            is_https=self._endpoint.startswith("https:"),
            until=utcnow() + timedelta(seconds=seconds),
        )
        url = f"{self._endpoint}/{self._container}/{quote(key, safe='/-_.~')}?{query}"
        return SignedUrl(url, _headers(method, replace))


def _headers(method: Method, replace: bool) -> dict[str, str]:
    if method == "GET":
        return {}
    kind = {"x-ms-blob-type": "BlockBlob"}
    return kind if replace else {**kind, "If-None-Match": "*"}


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) >= 16
    except (Base64Error, ValueError):
        return False
