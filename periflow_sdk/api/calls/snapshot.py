"""Chunks and snapshots; ``project`` is an id."""

from __future__ import annotations

from collections.abc import Sequence

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport


class SnapshotCalls(Transport):
    """Chunks and snapshots; ``project`` is an id."""

    def missing_chunks(self, project: str, chunks: Sequence[m.ChunkRef]) -> list[m.ChunkLocation]:
        """The chunks the store lacks, each with where to PUT it; renews a lease on all named."""
        body = m.ChunkQuery(chunks=list(chunks))
        return self._post(f"projects/{project}/chunks/missing", m.ChunkLocations, body).chunks

    def chunk_sources(self, project: str, chunks: Sequence[m.ChunkRef]) -> list[m.ChunkLocation]:
        """Where to GET each chunk."""
        body = m.ChunkQuery(chunks=list(chunks))
        return self._post(f"projects/{project}/chunks/sources", m.ChunkLocations, body).chunks

    def commit_snapshot(self, project: str, manifest: bytes) -> m.Snapshot:
        """Publish a manifest; every chunk it names must be in the store. Idempotent."""
        response = self._request(
            "POST",
            f"projects/{project}/snapshots",
            content=manifest,
            headers={"Content-Type": "application/json"},
        )
        return m.Snapshot.model_validate_json(response.content)

    def manifest(self, project: str, snapshot: str) -> bytes:
        return self._request("GET", f"projects/{project}/snapshots/{snapshot}/manifest").content

    def storage_usage(self, project: str) -> m.StorageUsage:
        """What the project stores, and how much it may."""
        return self._get(f"projects/{project}/storage", m.StorageUsage)

    def set_quota(self, project: str, quota_bytes: int | None) -> m.StorageUsage:
        """Limit what the project stores; None takes the limit back."""
        body = m.StorageQuota(quota_bytes=quota_bytes)
        return self._patch(f"projects/{project}/storage", m.StorageUsage, body)
