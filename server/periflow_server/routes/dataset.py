"""Datasets of a project: kept here in versions, or linked to buckets of others."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentSettings,
    CurrentStore,
    CurrentVault,
    Cursor,
    Db,
    Limit,
    Once,
    Page,
    project_access,
)
from periflow_server.routes.outgoing import Turn
from periflow_server.services import dataset as service
from periflow_server.services import dataset_file, dataset_link
from periflow_server.services.access import ProjectAccess

router = APIRouter(prefix=PREFIX + "/projects/{project}/datasets", tags=["datasets"])

Read = Annotated[ProjectAccess, project_access(Action.DATASET_READ)]
Write = Annotated[ProjectAccess, project_access(Action.DATASET_WRITE)]
Change = Annotated[ProjectAccess, project_access(Action.DATASET_CHANGE)]
FilePath = Annotated[str, Query(max_length=4096, description="A folder; empty for all of it.")]
FileCursor = Annotated[str | None, Query(max_length=8192)]
FileLimit = Annotated[int, Query(ge=1, le=10_000)]


@router.post("", status_code=201, response_model=m.Dataset)
def create_dataset(
    access: Write,
    body: m.DatasetCreate,
    database: Db,
    vault: CurrentVault,
    settings: CurrentSettings,
    once: Once,
    turn: Turn,
) -> Response:
    """Name a snapshot, or link a bucket once its files could be listed."""
    if body.link is not None:
        dataset_link.look(database, vault, settings, access, body.link)
    return once(access.user_id, lambda session: service.create_dataset(session, access, body))


@router.post("/check-link")
def check_link(
    access: Write,
    body: m.DatasetLinkCreate,
    database: Db,
    vault: CurrentVault,
    settings: CurrentSettings,
    turn: Turn,
) -> m.DatasetPage:
    """The first files of a bucket, as a dataset linked to it would have them; nothing is stored."""
    return dataset_link.look(database, vault, settings, access, body)


@router.post("/check-name", status_code=204)
def check_name(access: Write, body: m.DatasetName, database: Db) -> None:
    """Whether a new dataset may have this name; 409 if one of the organization has it."""
    with database.read() as session:
        service.refuse_taken(session, access, body.name)


@router.get("")
def list_datasets(
    access: Read, database: Db, cursor: Cursor = None, limit: Limit = 100
) -> Page[m.Dataset]:
    """The project's datasets by name."""
    with database.read() as session:
        items, following = service.datasets(session, access.project_id, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.get("/{dataset}")
def dataset(access: Read, dataset: str, database: Db) -> m.Dataset:
    """One dataset, by name or id, with the jobs that read it."""
    with database.read() as session:
        return service.detail(session, access.project_id, dataset)


@router.patch("/{dataset}")
def update_dataset(
    access: Change,
    dataset: str,
    body: m.DatasetUpdate,
    database: Db,
    vault: CurrentVault,
    settings: CurrentSettings,
    turn: Turn,
) -> m.Dataset:
    """Give a dataset another name, other metadata, or another credential that opens it."""
    if body.credential_id is not None:
        dataset_link.look_again(database, vault, settings, access, dataset, body.credential_id)
    with database.write() as session:
        return service.update(session, access, dataset, body)


@router.delete("/{dataset}", status_code=204)
def delete_dataset(access: Change, dataset: str, database: Db, force: bool = False) -> None:
    """Forget a dataset; jobs that have it keep it. A linked one that jobs read needs ``force``."""
    with database.write() as session:
        service.delete_dataset(session, access, dataset, force=force)


@router.post("/{dataset}/versions", status_code=201, response_model=m.Dataset)
def add_version(access: Change, dataset: str, body: m.DatasetVersionCreate, once: Once) -> Response:
    """Make a snapshot the newest version; jobs keep the one they were submitted with."""
    return once(
        access.user_id,
        lambda session: service.add_version(session, access, dataset, body.snapshot_id),
    )


@router.get("/{dataset}/versions")
def list_versions(
    access: Read, dataset: str, database: Db, cursor: Cursor = None, limit: Limit = 100
) -> Page[m.DatasetVersion]:
    """The versions of a dataset, the newest first; a linked one has none."""
    with database.read() as session:
        items, following = service.versions(session, access.project_id, dataset, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.get("/{dataset}/files")
def list_files(
    access: Read,
    dataset: str,
    database: Db,
    store: CurrentStore,
    vault: CurrentVault,
    settings: CurrentSettings,
    turn: Turn,
    path: FilePath = "",
    recursive: bool = False,
    version: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    cursor: FileCursor = None,
    limit: FileLimit = 1000,
) -> m.DatasetPage:
    """What lies in a folder of a dataset; with ``recursive`` the files anywhere below it."""
    return dataset_file.files(
        database,
        store,
        vault,
        settings,
        access,
        dataset,
        path=path,
        recursive=recursive,
        version=version,
        cursor=cursor,
        limit=limit,
    )


@router.post("/{dataset}/sources")
def dataset_sources(
    access: Annotated[ProjectAccess, project_access(Action.SNAPSHOT_READ)],
    dataset: str,
    body: m.DatasetSourcesRequest,
    database: Db,
    vault: CurrentVault,
    settings: CurrentSettings,
) -> m.DatasetSources:
    """Signed addresses of files of a linked dataset, which anybody can GET for a while."""
    return dataset_link.sources(database, vault, settings, access, dataset, body.paths)
