"""Checkpoints of a project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import Cursor, Db, Limit, Page, project_access
from periflow_server.services import checkpoint as service
from periflow_server.services import job as jobs
from periflow_server.services.access import ProjectAccess

router = APIRouter(prefix=PREFIX + "/projects/{project}/checkpoints", tags=["checkpoints"])


@router.get("")
def list_checkpoints(
    access: Annotated[ProjectAccess, project_access(Action.CHECKPOINT_READ)],
    database: Db,
    job: Annotated[str | None, Query(max_length=256)] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[m.Checkpoint]:
    """Checkpoints of the project or of one job, newest first."""
    project_id = access.project_id
    with database.read() as session:
        job_id = jobs.find(session, project_id, job)[0].id if job else None
        items, following = service.list_checkpoints(
            session, project_id, job_id=job_id, cursor=cursor, limit=limit
        )
    return Page(items=items, next_cursor=following)


@router.get("/{checkpoint}")
def checkpoint(
    access: Annotated[ProjectAccess, project_access(Action.CHECKPOINT_READ)],
    checkpoint: str,
    database: Db,
) -> m.Checkpoint:
    """One checkpoint by id, unique id prefix or ``latest``."""
    with database.read() as session:
        return service.present(service.find(session, access.project_id, checkpoint))


@router.delete("/{checkpoint}", status_code=204)
def delete_checkpoint(
    access: Annotated[ProjectAccess, project_access(Action.CHECKPOINT_DELETE)],
    checkpoint: str,
    database: Db,
    dry_run: bool = False,
) -> None:
    """Delete a checkpoint that no unfinished job needs, unless ``dry_run``; the job stays."""
    with database.write() as session:
        service.delete_checkpoint(session, access, checkpoint, dry_run=dry_run)
