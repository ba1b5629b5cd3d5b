"""A bucket in S3 or a container in Azure Blob Storage, by obstore; in the helper process alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import (
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from periflow_sdk.data.fetchprocess import ODD_NAMES, ChangedError, Span
from periflow_sdk.data.quicks3 import QuickS3

if TYPE_CHECKING:
    from obstore.store import AzureAccessKey, AzureStore, S3Credential, S3Store

_ODD_NAME = "Encountered object with invalid path"
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9]{1,80})\s*</Code>")
_REFUSED = re.compile(r"status code: 40[13]\b")
_CREDENTIAL_HINT = "pf credential update, or ask who keeps the bucket; then submit the job again"


class StoreBucket:
    """The objects below a prefix.

    Args:
        link: The fields of a ``DatasetLink``.
        secret: Those of the credential.
    """

    def __init__(self, link: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        self._name = link["storage_name"]
        self._store: S3Store | AzureStore
        self._quick: QuickS3 | None = None
        if link["cloud"] == "s3":
            url, region = _s3_place(link, secret)
            prefix = link["prefix"] or ""
            self._store = _open_s3(link, secret)
            self._quick = QuickS3(url, region, self._name, prefix, secret)
        else:
            self._store = _open_azure(link, secret)

    async def list(self) -> list[tuple[str, int, str | None]]:
        return [
            (meta["path"], meta["size"], meta["e_tag"])
            async for batch in obstore.list(self._store, chunk_size=1000)
            for meta in batch
        ]

    async def read_quickly(self, spans: Sequence[Span]) -> Sequence[Any | None]:
        return await self._quick.read(spans) if self._quick else [None] * len(spans)

    async def read(self, span: Span) -> Any:
        path, etag, start, end = span
        options: Any = {"range": (start, end)}
        if etag is not None:
            options["if_match"] = etag
        try:
            answer = await obstore.get_async(self._store, path, options=options)
            return await answer.bytes_async()
        except (PreconditionError, NotFoundError, FileNotFoundError) as error:
            raise ChangedError(path) from error

    def explain(self, error: Exception) -> dict[str, Any]:
        text = str(error).partition("Debug source")[0]
        code = _CODE.search(text)
        reason = code[1] if code else " ".join(text.split())[:200]
        if _ODD_NAME in text:
            return {
                "message": f"{self._name} has objects whose names can be no paths of files.",
                "code": ODD_NAMES,
                "hint": None,
            }
        refusals = (PermissionDeniedError, UnauthenticatedError, PermissionError)
        if isinstance(error, refusals) or _REFUSED.search(text):
            return {
                "message": f"The credential may not read {self._name} ({reason}).",
                "code": "bucket_refused",
                "hint": _CREDENTIAL_HINT,
            }
        return {
            "message": f"{self._name} cannot be read ({reason}).",
            "code": "bucket_failed",
            "hint": "Look whether bucket, region and address are right: pf dataset view",
        }


def _options(url: str | None) -> dict[str, Any]:
    return {
        "client_options": {
            "timeout": "180s",
            "connect_timeout": "10s",
            "allow_http": bool(url and url.startswith("http://")),
        },
        # A training outlives some forty seconds without a network.
        "retry_config": {
            "max_retries": 10,
            "retry_timeout": timedelta(seconds=240),
            "backoff": {
                "init_backoff": timedelta(seconds=0.2),
                "max_backoff": timedelta(seconds=8),
                "base": 2.0,
            },
        },
    }


def _s3_place(link: Mapping[str, Any], secret: Mapping[str, str]) -> tuple[str, str]:
    """Address of the store, and region."""
    region = link["region"] or secret.get("aws_default_region") or "us-east-1"
    suffix = ".cn" if region.startswith("cn-") else ""
    return link["endpoint_url"] or f"https://s3.{region}.amazonaws.com{suffix}", region


def _open_s3(link: Mapping[str, Any], secret: Mapping[str, str]) -> S3Store:
    from obstore.store import S3Store

    # A provider, and not the key itself: variables of the script's own environment would be added.
    def key() -> S3Credential:
        return {
            "access_key_id": secret["aws_access_key_id"],
            "secret_access_key": secret["aws_secret_access_key"],
            "token": None,
            "expires_at": None,
        }

    url, region = _s3_place(link, secret)
    return S3Store(
        link["storage_name"],
        prefix=link["prefix"] or None,
        aws_endpoint_url_s3=url,
        region=region,
        skip_signature=False,
        virtual_hosted_style_request=False,
        credential_provider=key,
        **_options(url),
    )


def _open_azure(link: Mapping[str, Any], secret: Mapping[str, str]) -> AzureStore:
    from obstore.store import AzureStore

    def key() -> AzureAccessKey:
        return {"access_key": secret["storage_account_key"], "expires_at": None}

    account = secret["storage_account_name"]
    url = link["endpoint_url"] or f"https://{account}.blob.core.windows.net"
    return AzureStore(
        link["storage_name"],
        prefix=link["prefix"] or None,
        account_name=account,
        endpoint=url.replace("{account}", account),
        use_emulator=False,
        skip_signature=False,
        credential_provider=key,
        **_options(url),
    )
