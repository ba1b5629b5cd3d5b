"""Snapshots: a manifest whose chunks are all there."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.errors import NotFoundError
from periflow_sdk.snapshots.manifest import Manifest
from periflow_server.db import snapshot as db
from periflow_server.db.base import Database, Session, utcnow
from periflow_server.services import chunk
from periflow_server.settings import Settings
from periflow_server.storage.key import manifest_key
from periflow_server.storage.store import Store


def commit_snapshot(
    database: Database, store: Store, settings: Settings, project_id: str, document: bytes
) -> m.Snapshot:
    """Publish a manifest; the same manifest again gives the same snapshot.

    Raises:
        UnsafePathError: a path or link of it could leave its folder.
        IntegrityError: it is not a manifest, or does not add up (``bad_manifest``).
        ConflictError: chunks it names are not in the store (``chunks_missing``), or do not fit
            into the project (``storage_quota_exceeded``).
    """
    manifest = Manifest.parse(document)
    sizes = {piece.hash: piece.size for piece in manifest.chunks}
    # Leased first: what is found now cannot be collected before the snapshot holds it.
    chunk.lease(database, settings, project_id, sizes)
    chunk.refuse_missing(database, store, project_id, sizes)
    row = db.Snapshot(
        project_id=project_id,
        id=manifest.id,
        size=manifest.size,
        file_count=manifest.file_count,
        created_at=utcnow(),
    )
    key = manifest_key(project_id, manifest.id)
    with database.read() as session:
        was_there = db.find_snapshot(session, project_id, manifest.id) is not None
    # Not below, where others would wait for the store.
    store.put_bytes(key, document)
    with database.write() as session:
        is_gone = was_there and db.hold_snapshot(session, project_id, manifest.id) is None
        db.add_snapshot(session, row, list(sizes))
        if is_gone:  # A collector took the row, and with it what was just put.
            store.put_bytes(key, document)
        return m.Snapshot.model_validate(find_snapshot(session, project_id, manifest.id))


def find_snapshot(session: Session, project_id: str, snapshot_id: str) -> db.Snapshot:
    """The project's snapshot of this id.

    Raises:
        NotFoundError: ``snapshot_not_found``.
    """
    return _known(db.find_snapshot(session, project_id, snapshot_id), snapshot_id)


def hold_snapshot(session: Session, project_id: str, snapshot_id: str) -> db.Snapshot:
    """Like :func:`find_snapshot`, to make something of it: it is not collected meanwhile.

    Raises:
        NotFoundError: ``snapshot_not_found``.
    """
    return _known(db.hold_snapshot(session, project_id, snapshot_id), snapshot_id)


def _known(snapshot: db.Snapshot | None, snapshot_id: str) -> db.Snapshot:
    if snapshot is None:
        raise NotFoundError(
            f"There is no snapshot {snapshot_id[:64]} in this project.", code="snapshot_not_found"
        )
    return snapshot


def manifest(database: Database, store: Store, project_id: str, snapshot_id: str) -> bytes:
    """The manifest as it was committed.

    Raises:
        NotFoundError: ``snapshot_not_found``.
    """
    with database.read() as session:
        snapshot = find_snapshot(session, project_id, snapshot_id)
    return store.get_bytes(manifest_key(project_id, snapshot.id))
