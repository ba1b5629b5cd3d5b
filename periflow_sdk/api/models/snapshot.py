"""Chunks and snapshots."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from periflow_sdk.api.models.wire import Body, Hash, Wire


class ChunkRef(Body):
    """A chunk by its blake3 hash (hex) and size in bytes."""

    hash: Hash
    size: Annotated[int, Field(ge=0)]


class ChunkQuery(Body):
    chunks: Annotated[list[ChunkRef], Field(max_length=4096)]


class ChunkLocation(Wire):
    """Where to PUT or GET one chunk.

    ``headers`` have to be sent along. ``path`` is set by a server that keeps chunks in a local
    folder: a client of the same user on the same machine may copy the file itself (under a
    temporary name, then rename).
    """

    hash: str
    url: str
    headers: dict[str, str] = {}
    path: str | None = None


class ChunkLocations(Wire):
    """The chunks asked for; for an upload, only those the store does not have yet."""

    chunks: list[ChunkLocation]


class Snapshot(Wire):
    id: str
    size: int
    file_count: int
    created_at: datetime


class StorageUsage(Wire):
    """What a project stores; ``quota_bytes`` is None where nothing limits it.

    What several files share counts once. What is deleted counts until it is collected.
    """

    used_bytes: int
    chunk_count: int
    quota_bytes: int | None


class StorageQuota(Body):
    """How much a project may store; None for no limit."""

    quota_bytes: Annotated[int, Field(ge=0, lt=1 << 63)] | None
