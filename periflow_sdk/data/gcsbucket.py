"""A bucket in Google Cloud Storage, by gcsfs; in the helper process alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from periflow_sdk.data.fetchprocess import ChangedError

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
            version_aware=True,
            asynchronous=True,
            skip_instance_cache=True,
            use_listings_cache=False,
        )

    async def list(self) -> list[tuple[str, int, str | None]]:
        found = await self._fs._find(self._root, detail=True)
        return [
            (name[len(self._root) + 1 :].partition("#")[0], int(entry["size"]), entry["generation"])
            for name, entry in found.items()
            if entry["type"] == "file"
        ]

    async def read(self, path: str, etag: str | None, start: int, end: int) -> bytes:
        suffix = f"#{etag}" if etag else ""
        try:
            content: bytes = await self._fs._cat_file(
                f"{self._root}/{path}{suffix}", start=start, end=end
            )
        except FileNotFoundError as error:
            raise ChangedError from error
        return content

    def explain(self, error: Exception) -> dict[str, Any]:
        text = str(error).strip()[:300] or type(error).__name__
        return {
            "message": f"{self._name} cannot be read: {text}",
            "code": "bucket_failed",
            "hint": "Look whether the credential may read it: pf credential view, pf dataset view",
        }
