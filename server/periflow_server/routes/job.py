"""Jobs of a project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from periflow_sdk.api import models as m
from periflow_server.db.base import Session
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentStore,
    Cursor,
    Db,
    Limit,
    Once,
    Page,
    project_access,
)
from periflow_server.routes.outgoing import StoreTurn
from periflow_server.services import attached
from periflow_server.services import job as service
from periflow_server.services.access import ProjectAccess, require_own

router = APIRouter(prefix=PREFIX + "/projects/{project}/jobs", tags=["jobs"])


@router.post("", status_code=201, response_model=m.Job)
def create_job(
    access: Annotated[ProjectAccess, project_access(Action.JOB_RUN)],
    body: m.JobCreate,
    once: Once,
    request: Request,
) -> Response:
    """Put a job into the queue."""
    answer = once(
        access.user_id,
        lambda session: service.create(session, access.project_id, access.user_id, body),
    )
    request.app.state.wake.set()
    return answer


@router.post("/attached")
def attach_job(
    access: Annotated[ProjectAccess, project_access(Action.JOB_RUN)],
    body: m.AttachedJobCreate,
    database: Db,
) -> m.AttachedJob:
    """The job of a run that was started outside; the same ``run_id`` has one job for ever."""
    with database.write() as session:
        return attached.attach(session, access.project_id, access.user_id, body)


@router.post("/{job}/sync")
def sync_job(
    access: Annotated[ProjectAccess, project_access(Action.JOB_RUN)],
    job: str,
    body: m.SyncRequest,
    database: Db,
) -> m.AttachedJob:
    """A token for what a node of an ended job has left unsent."""
    with database.write() as session:
        return attached.sync(session, service.find(session, access.project_id, job), body)


async def _chosen(where: Annotated[m.JobFilter, Query()]) -> m.JobFilter:
    return where


@router.get("")
def list_jobs(
    access: Annotated[ProjectAccess, project_access(Action.JOB_READ)],
    database: Db,
    chosen: Annotated[m.JobFilter, Depends(_chosen)],
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[m.Job]:
    """The project's jobs that fit, newest first."""
    with database.read() as session:
        items, following = service.list_jobs(
            session, access.project_id, access.user_id, chosen, cursor=cursor, limit=limit
        )
    return Page(items=items, next_cursor=following)


@router.get("/{job}")
def job(
    access: Annotated[ProjectAccess, project_access(Action.JOB_READ)],
    job: str,
    database: Db,
    store: CurrentStore,
    turn: StoreTurn,
) -> m.JobDetail:
    """One job by number, name, id, unique id prefix or ``latest``."""
    with database.read() as session:
        return service.detail(session, store, service.find(session, access.project_id, job))


@router.post("/{job}/stop")
def stop_job(
    access: Annotated[ProjectAccess, project_access(Action.JOB_STOP)],
    job: str,
    once: Once,
    request: Request,
    now: bool = False,
) -> Response:
    """End a job: at once while it waits, else by telling its agents; it saves unless ``now``."""

    def stop(session: Session) -> m.Job:
        row = service.find(session, access.project_id, job)
        require_own(access, row[0].created_by, Action.JOB_STOP_ANY)
        return service.stop(session, row, now=now)

    answer = once(access.user_id, stop, status_code=200)
    request.app.state.wake.set()
    return answer


@router.delete("/{job}", status_code=204)
def delete_job(
    access: Annotated[ProjectAccess, project_access(Action.JOB_DELETE)],
    job: str,
    database: Db,
    request: Request,
    dry_run: bool = False,
) -> None:
    """Delete a job that has ended, with its log, metrics and checkpoints, unless ``dry_run``."""
    with database.write() as session:
        service.delete_job(session, access, job, dry_run=dry_run)
    if not dry_run:
        request.app.state.tidy.set()


@router.post("/{job}/preempt")
def preempt_job(
    access: Annotated[ProjectAccess, project_access(Action.JOB_STOP)],
    job: str,
    body: m.PreemptRequest,
    once: Once,
) -> Response:
    """Tell a running job that its node will be taken, as a rehearsal."""

    def preempt(session: Session) -> m.Job:
        row = service.find(session, access.project_id, job)
        require_own(access, row[0].created_by, Action.JOB_STOP_ANY)
        return service.preempt(session, row, body.grace_seconds)

    return once(access.user_id, preempt, status_code=200)
