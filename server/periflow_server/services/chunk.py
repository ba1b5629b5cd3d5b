"""Chunks of a project: which are missing, where to send and to fetch them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError
from periflow_server.db import snapshot as db
from periflow_server.db.base import Database, utcnow
from periflow_server.settings import Settings
from periflow_server.storage.signing import ChunkGrant, Method, UrlSigner
from periflow_server.storage.store import Store, chunk_key


@dataclass(frozen=True)
class ChunkDoor:
    """Where chunks go in and out: the store, and the URLs by which clients reach it.

    Args:
        base_url: The server's address as the client knows it.
    """

    store: Store
    settings: Settings
    base_url: str

    def location(
        self, method: Method, project_id: str, chunk: m.ChunkRef, *, direct: bool
    ) -> m.ChunkLocation:
        """The signed URL of a chunk, and its file where the client may touch that itself."""
        expires = int(time.time()) + self.settings.url_seconds
        grant = ChunkGrant(method, project_id, chunk.hash, chunk.size, expires)
        path = self.store.path(chunk_key(project_id, chunk.hash))
        return m.ChunkLocation(
            hash=chunk.hash,
            url=UrlSigner(self.settings.key).url(self.base_url, grant),
            path=str(path) if direct and self.settings.embedded else None,
        )


def missing_chunks(
    database: Database, door: ChunkDoor, project_id: str, chunks: Sequence[m.ChunkRef]
) -> m.ChunkLocations:
    """Lease all chunks named, and say where to PUT those that the store lacks."""
    wanted = {chunk.hash: chunk for chunk in chunks}
    lease(database, door.settings, project_id, {c.hash: c.size for c in wanted.values()})
    if door.settings.embedded:
        door.store.make_folder(chunk_key(project_id, ""))
    locations = []
    for chunk in wanted.values():
        there = door.store.size(chunk_key(project_id, chunk.hash))
        if there != chunk.size:
            # What is there is broken: only a PUT, whose bytes are checked, replaces it.
            locations.append(door.location("PUT", project_id, chunk, direct=there is None))
    return m.ChunkLocations(chunks=locations)


def chunk_sources(
    door: ChunkDoor, project_id: str, chunks: Sequence[m.ChunkRef]
) -> m.ChunkLocations:
    """Where to GET chunks.

    Raises:
        ConflictError: the store lacks some (``chunks_missing``, ``data.missing``).
    """
    refuse_missing(door.store, project_id, {chunk.hash: chunk.size for chunk in chunks})
    return m.ChunkLocations(
        chunks=[door.location("GET", project_id, chunk, direct=True) for chunk in chunks]
    )


def lease(database: Database, settings: Settings, project_id: str, sizes: dict[str, int]) -> None:
    """Keep chunks from being collected for a while; ``sizes`` is hash → bytes."""
    until = utcnow() + timedelta(seconds=settings.lease_seconds)
    with database.write() as session:
        db.lease_chunks(session, project_id, sizes, until)


def refuse_missing(store: Store, project_id: str, sizes: dict[str, int]) -> None:
    """Raise when the store lacks one of the chunks, or has it with another size.

    Raises:
        ConflictError: ``chunks_missing``, with the hashes in ``data.missing``.
    """
    missing = [
        name for name, size in sizes.items() if store.size(chunk_key(project_id, name)) != size
    ]
    if missing:
        raise ConflictError(
            f"{len(missing)} of {len(sizes)} chunks are not in the store.",
            code="chunks_missing",
            hint="Run the same command again: it sends only what is missing.",
            data={"missing": missing[:1000], "count": len(missing)},
        )
