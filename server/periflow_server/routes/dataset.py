"""Datasets of a project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes.dependencies import Cursor, Db, Limit, Once, Page, project_access
from periflow_server.services import dataset as service
from periflow_server.services.access import ProjectAccess

router = APIRouter(prefix="/projects/{project}/datasets", tags=["datasets"])


@router.post("", status_code=201, response_model=m.Dataset)
def create_dataset(
    access: Annotated[ProjectAccess, project_access(Action.DATASET_WRITE)],
    body: m.DatasetCreate,
    once: Once,
) -> Response:
    """Name a snapshot."""
    return once(access.user_id, lambda session: service.create_dataset(session, access, body))


@router.get("")
def list_datasets(
    access: Annotated[ProjectAccess, project_access(Action.DATASET_READ)],
    database: Db,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[m.Dataset]:
    """The project's datasets by name."""
    with database.read() as session:
        items, following = service.datasets(session, access.project_id, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.get("/{dataset}")
def dataset(
    access: Annotated[ProjectAccess, project_access(Action.DATASET_READ)],
    dataset: str,
    database: Db,
) -> m.Dataset:
    """One dataset, by name or id."""
    with database.read() as session:
        return service.dataset_named(session, access.project_id, dataset)


@router.delete("/{dataset}", status_code=204)
def delete_dataset(
    access: Annotated[ProjectAccess, project_access(Action.DATASET_DELETE)],
    dataset: str,
    database: Db,
) -> None:
    """Forget a dataset; jobs that have it keep it."""
    with database.write() as session:
        service.delete_dataset(session, access, dataset)
