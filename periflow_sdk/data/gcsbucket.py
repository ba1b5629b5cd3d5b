"""A bucket in Google Cloud Storage, by gcsfs; in the helper process alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from periflow_sdk.data.fetchprocess import ChangedError, Span

# Else each call first asks another service, and waits where that cannot be reached.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


class GcsBucket:
    """The objects below a prefix; an etag is the number of an object's generation.

    Args:
        link: The fields of a ``DatasetLink``.
        secret: Those of the credential.
    """

    def __init__(self, link: Mapping[str, Any], secret: Mapping[str, str]) -> None:
        from gcsfs import GCSFileSystem

        key = json.loads(secret["service_account_key"]) if secret else "anon"
        self._name = link["storage_name"]
        self._root = "/".join(
            part for part in (self._name, (link["prefix"] or "").strip("/")) if part
        )
        self._fs: Any = GCSFileSystem(
            token=key,
            endpoint_url=link["endpoint_url"] or None,
            asynchronous=True,
            skip_instance_cache=True,
            use_listings_cache=False,
        )

    async def list(self) -> list[tuple[str, int, str | None]]:
        found = await self._fs._find(self._root, detail=True)
        return [
            (name[len(self._root) + 1 :], int(entry["size"]), str(entry["generation"]))
            for name, entry in found.items()
            if entry["type"] == "file"
        ]

    async def read_quickly(self, spans: Sequence[Span]) -> Sequence[bytes | None]:
        return [None] * len(spans)

    async def read(self, span: Span) -> bytes:
        path, etag, start, end = span
        # By hand: the library takes what follows a # in a path for a generation.
        bucket = f"{self._fs._location}/download/storage/v1/b/{self._name}"
        state = f"&generation={etag}" if etag else ""
        url = f"{bucket}/o/{self._key(path)}?alt=media{state}"
        try:
            content: bytes
            headers, content = await self._fs._call(
                "GET", url, headers={"Range": f"bytes={start}-{end - 1}"}
            )
        except FileNotFoundError as error:
            raise ChangedError(path) from error
        names = {name.lower() for name in headers}
        return content if "content-range" in names else content[start:end]

    def _key(self, path: str) -> str:
        return quote(f"{self._root}/{path}".partition("/")[2], safe="")

    def explain(self, error: Exception) -> dict[str, Any]:
        text = str(error).strip()[:300] or type(error).__name__
        return {
            "message": f"{self._name} cannot be read: {text}",
            "code": "bucket_failed",
            "hint": "Look whether the credential may read it: pf credential view, pf dataset view",
        }
