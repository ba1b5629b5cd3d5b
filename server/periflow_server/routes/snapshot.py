"""Chunks and snapshots of a project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    BaseUrl,
    CurrentSettings,
    CurrentStore,
    Db,
    RawBody,
    project_access,
)
from periflow_server.routes.outgoing import StoreTurn
from periflow_server.services import chunk, quota, snapshot
from periflow_server.services.access import ProjectAccess

router = APIRouter(prefix=PREFIX + "/projects/{project}", tags=["snapshots"])


@router.post("/chunks/missing")
def missing_chunks(
    access: Annotated[ProjectAccess, project_access(Action.SNAPSHOT_WRITE)],
    body: m.ChunkQuery,
    database: Db,
    store: CurrentStore,
    settings: CurrentSettings,
    base_url: BaseUrl,
    turn: StoreTurn,
) -> m.ChunkLocations:
    """Where to PUT the chunks that the store lacks; leases all that are named."""
    door = chunk.ChunkDoor(store, settings, base_url)
    return chunk.missing_chunks(database, door, access.project_id, body.chunks)


@router.post("/chunks/sources")
def chunk_sources(
    access: Annotated[ProjectAccess, project_access(Action.SNAPSHOT_READ)],
    body: m.ChunkQuery,
    database: Db,
    store: CurrentStore,
    settings: CurrentSettings,
    base_url: BaseUrl,
    turn: StoreTurn,
) -> m.ChunkLocations:
    """Where to GET chunks."""
    door = chunk.ChunkDoor(store, settings, base_url)
    return chunk.chunk_sources(database, door, access.project_id, body.chunks)


@router.get("/storage")
def storage_usage(
    access: Annotated[ProjectAccess, project_access(Action.PROJECT_READ)],
    database: Db,
    settings: CurrentSettings,
) -> m.StorageUsage:
    """What the project stores, and how much it may."""
    with database.read() as session:
        return quota.storage_usage(session, settings, access.project_id)


@router.patch("/storage")
def set_quota(
    access: Annotated[ProjectAccess, project_access(Action.QUOTA_CHANGE)],
    body: m.StorageQuota,
    database: Db,
    settings: CurrentSettings,
) -> m.StorageUsage:
    """Limit what the project stores; the server's administrator may limit it further."""
    with database.write() as session:
        quota.set_quota(session, access.project_id, body.quota_bytes)
        return quota.storage_usage(session, settings, access.project_id)


@router.post("/snapshots", status_code=201)
def commit_snapshot(
    access: Annotated[ProjectAccess, project_access(Action.SNAPSHOT_WRITE)],
    document: RawBody,
    database: Db,
    store: CurrentStore,
    settings: CurrentSettings,
    turn: StoreTurn,
) -> m.Snapshot:
    """Publish a manifest (the body); every chunk it names must be there. Idempotent."""
    return snapshot.commit_snapshot(database, store, settings, access.project_id, document)


@router.get("/snapshots/{snapshot_id}")
def find_snapshot(
    access: Annotated[ProjectAccess, project_access(Action.SNAPSHOT_READ)],
    snapshot_id: str,
    database: Db,
) -> m.Snapshot:
    """One snapshot."""
    with database.read() as session:
        row = snapshot.find_snapshot(session, access.project_id, snapshot_id)
        return m.Snapshot.model_validate(row)


@router.get("/snapshots/{snapshot_id}/manifest", response_class=Response)
def manifest(
    access: Annotated[ProjectAccess, project_access(Action.SNAPSHOT_READ)],
    snapshot_id: str,
    database: Db,
    store: CurrentStore,
    turn: StoreTurn,
) -> Response:
    """The manifest, byte for byte as it was committed."""
    document = snapshot.manifest(database, store, access.project_id, snapshot_id)
    return Response(document, media_type="application/json")
