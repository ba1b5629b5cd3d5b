"""Chunks of a project: which are missing, where to send and to fetch them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError
from periflow_server.db import snapshot as db
from periflow_server.db.base import Database, utcnow
from periflow_server.services import quota
from periflow_server.settings import Settings
from periflow_server.storage.key import chunk_key
from periflow_server.storage.signing import ChunkGrant, UrlSigner
from periflow_server.storage.store import Method, Store


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
        self,
        method: Method,
        project_id: str,
        chunk: m.ChunkRef,
        *,
        direct: bool = False,
        replace: bool = False,
    ) -> m.ChunkLocation:
        """The signed URL of a chunk, and its file where the client may touch that itself."""
        key, seconds = chunk_key(project_id, chunk.hash), self.settings.url_seconds
        signed = self.store.sign(method, key, chunk.size, seconds, replace=replace)
        if signed is not None:
            return m.ChunkLocation(hash=chunk.hash, url=signed.url, headers=dict(signed.headers))
        expires = int(time.time()) + seconds
        grant = ChunkGrant(method, project_id, chunk.hash, chunk.size, expires)
        path = self.store.local_path(key) if direct and self.settings.embedded else None
        return m.ChunkLocation(
            hash=chunk.hash,
            url=UrlSigner(self.settings.key).url(self.base_url, grant),
            path=str(path) if path is not None else None,
        )


def missing_chunks(
    database: Database, door: ChunkDoor, project_id: str, chunks: Sequence[m.ChunkRef]
) -> m.ChunkLocations:
    """Lease all chunks named, and say where to PUT those that the store lacks.

    Raises:
        ConflictError: they do not fit into the project (``storage_quota_exceeded``).
    """
    wanted = {chunk.hash: chunk for chunk in chunks}
    sizes = {chunk.hash: chunk.size for chunk in wanted.values()}
    new = lease(database, door.settings, project_id, sizes)
    folder = door.store.local_path(chunk_key(project_id, ""))
    if door.settings.embedded and folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Nobody could send what nobody had named; if it is there all the same, a PUT says so.
    named = [name for name in sizes if name not in new]
    there = sizes_there(database, door.store, project_id, named)
    locations = []
    for name, chunk in wanted.items():
        size = there.get(name)
        if size != chunk.size:
            # What is there is broken: only a PUT, whose bytes are checked, replaces it.
            where = door.location(
                "PUT", project_id, chunk, direct=size is None, replace=size is not None
            )
            locations.append(where)
    return m.ChunkLocations(chunks=locations)


def chunk_sources(
    database: Database, door: ChunkDoor, project_id: str, chunks: Sequence[m.ChunkRef]
) -> m.ChunkLocations:
    """Where to GET chunks.

    Raises:
        ConflictError: the store lacks some (``chunks_missing``, ``data.missing``).
    """
    refuse_missing(database, door.store, project_id, {chunk.hash: chunk.size for chunk in chunks})
    return m.ChunkLocations(
        chunks=[door.location("GET", project_id, chunk, direct=True) for chunk in chunks]
    )


def lease(
    database: Database, settings: Settings, project_id: str, sizes: dict[str, int]
) -> set[str]:
    """Keep chunks from being collected for a while.

    Args:
        sizes: Hash → bytes.

    Returns:
        Those that nobody had named before.

    Raises:
        ConflictError: they do not fit into the project (``storage_quota_exceeded``).
    """
    until = utcnow() + timedelta(seconds=settings.lease_seconds)
    try:
        with database.write() as session:
            new = quota.admit(session, settings, project_id, sizes)
            db.lease_chunks(session, project_id, sizes, until)
            return new
    except ConflictError as error:
        if error.code == "storage_quota_exceeded":
            quota.free_unfinished(database, project_id)
        raise


def sizes_there(
    database: Database, store: Store, project_id: str, hashes: Collection[str]
) -> dict[str, int]:
    """The sizes of those of the chunks that the store has, by hash."""

    def known() -> int:
        with database.read() as session:
            return db.stored(session, project_id)[1]

    keys = {chunk_key(project_id, name): name for name in hashes}
    found = store.sizes(chunk_key(project_id, ""), keys, known)
    return {keys[key]: size for key, size in found.items()}


def refuse_missing(
    database: Database, store: Store, project_id: str, sizes: dict[str, int]
) -> None:
    """Raise when the store lacks one of the chunks, or has it with another size.

    Args:
        sizes: Hash → bytes.

    Raises:
        ConflictError: ``chunks_missing``, with the hashes in ``data.missing``.
    """
    there = sizes_there(database, store, project_id, sizes)
    missing = [name for name, size in sizes.items() if there.get(name) != size]
    if missing:
        raise ConflictError(
            f"{len(missing)} of {len(sizes)} chunks are not in the store.",
            code="chunks_missing",
            hint="Run the same command again: it sends only what is missing.",
            data={"missing": missing[:1000], "count": len(missing)},
        )
