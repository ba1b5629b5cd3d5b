"""Signed URLs of chunks that this server serves itself."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from periflow_server.storage.store import Method


@dataclass(frozen=True)
class ChunkGrant:
    """What a URL allows: one method on one chunk of one project, until a moment."""

    method: Method
    project_id: str
    hash: str
    size: int
    expires: int

    @property
    def is_over(self) -> bool:
        """Whether the moment has come."""
        return self.expires <= time.time()


class UrlSigner:
    """Makes and checks signatures.

    Args:
        key: The server's secret.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def url(self, base_url: str, grant: ChunkGrant) -> str:
        """The address that carries the grant.

        Args:
            base_url: The server's address as the client knows it.
        """
        query = urlencode(
            {"size": grant.size, "expires": grant.expires, "signature": self._signature(grant)}
        )
        path = f"/api/v1/blobs/{grant.project_id}/{grant.hash}"
        return f"{base_url.rstrip('/')}{path}?{query}"

    def is_valid(self, grant: ChunkGrant, signature: str) -> bool:
        """Whether we signed exactly this."""
        return hmac.compare_digest(self._signature(grant).encode(), signature.encode())

    def _signature(self, grant: ChunkGrant) -> str:
        text = "\n".join(
            (
                "periflow-blob",
                grant.method,
                grant.project_id,
                grant.hash,
                str(grant.size),
                str(grant.expires),
            )
        )
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
