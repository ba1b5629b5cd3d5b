"""Datasets: named snapshots of a project."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, NotFoundError
from periflow_server.db import dataset as db
from periflow_server.db.base import Session
from periflow_server.permissions import Action
from periflow_server.services.access import ProjectAccess, require_own
from periflow_server.services.snapshot import hold_snapshot


def create_dataset(session: Session, access: ProjectAccess, body: m.DatasetCreate) -> m.Dataset:
    """Name a snapshot of the project.

    Raises:
        NotFoundError: the project has no such snapshot (``snapshot_not_found``).
        ConflictError: the organization has a dataset of this name (``dataset_exists``).
    """
    snapshot = hold_snapshot(session, access.project_id, body.snapshot_id)
    if db.is_name_taken(session, access.organization_id, body.name):
        raise ConflictError(
            f"A dataset named {body.name} exists already in this organization.",
            code="dataset_exists",
            hint=f"Choose another name, or run `pf dataset delete {body.name}` first.",
        )
    dataset = db.Dataset(
        organization_id=access.organization_id,
        project_id=access.project_id,
        name=body.name,
        details=body.metadata,
        snapshot_id=snapshot.id,
        created_by=access.user_id,
    )
    session.add(dataset)
    session.flush()
    return dataset_named(session, access.project_id, dataset.id)


def datasets(
    session: Session, project_id: str, cursor: str | None, limit: int
) -> tuple[list[m.Dataset], str | None]:
    """The project's datasets by name, and the cursor of what follows."""
    rows = db.datasets_of(session, project_id, after=cursor, limit=limit + 1)
    items = [_wire(row) for row in rows[:limit]]
    return items, items[-1].name if len(rows) > limit else None


def dataset_named(session: Session, project_id: str, name: str) -> m.Dataset:
    """The project's dataset of this name or id.

    Raises:
        NotFoundError: ``dataset_not_found``.
    """
    return _wire(_find(session, project_id, name))


def delete_dataset(session: Session, access: ProjectAccess, name: str) -> None:
    """Forget a dataset. Jobs that were created with it keep what they mount.

    Raises:
        NotFoundError: ``dataset_not_found``.
        ForbiddenError: somebody else made it (``not_yours``).
    """
    dataset = _find(session, access.project_id, name)[0]
    require_own(access, dataset.created_by, Action.DATASET_DELETE_ANY)
    session.delete(dataset)


def _find(session: Session, project_id: str, name: str) -> db.DatasetRow:
    row = db.find_dataset(session, project_id, name)
    if row is None:
        raise NotFoundError(
            f"There is no dataset {name} in this project.",
            code="dataset_not_found",
            hint="Run `pf dataset list`.",
        )
    return row


def _wire(row: db.DatasetRow) -> m.Dataset:
    dataset, username, snapshot = row
    return m.Dataset(
        id=dataset.id,
        name=dataset.name,
        cloud=dataset.cloud,
        region=dataset.region,
        storage_name=dataset.storage_name,
        active=dataset.active,
        metadata=dataset.details,
        snapshot_id=dataset.snapshot_id,
        size=snapshot.size if snapshot else 0,
        file_count=snapshot.file_count if snapshot else 0,
        created_by=username,
        created_at=dataset.created_at,
    )
