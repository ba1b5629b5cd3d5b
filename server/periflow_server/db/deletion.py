"""What is deleted is hidden at once, and then removed piece by piece."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, update

from periflow_sdk.api.models import TERMINAL_STATUSES
from periflow_server.db.attempt import Attempt, Node
from periflow_server.db.base import Session, claim
from periflow_server.db.checkpoint import Checkpoint
from periflow_server.db.dataset import Dataset, DatasetVersion
from periflow_server.db.event import Event
from periflow_server.db.invitation import Invitation
from periflow_server.db.job import ACTIVE, Job
from periflow_server.db.log import LogBatch, LogSegment
from periflow_server.db.metric import JournalOffset, MetricChunk, MetricSeries
from periflow_server.db.notification import Delivery
from periflow_server.db.organization import Membership, Organization
from periflow_server.db.part import CheckpointPart
from periflow_server.db.project import Project
from periflow_server.db.snapshot import Snapshot, SnapshotChunk

_FOREIGN_FOLDERS_KEPT = timedelta(days=7)
"""A server that has not removed its folders for so long does not come back."""


def unfinished_jobs(
    session: Session, *, organization_id: str | None = None, project_id: str | None = None
) -> list[tuple[str, int]]:
    """The project and number of each job that has not ended."""
    query = (
        select(Project.name, Job.number)
        .join(Project, Project.id == Job.project_id)
        .where(Job.status.not_in(TERMINAL_STATUSES), Project.deleted_at.is_(None))
        .order_by(Project.name, Job.number)
    )
    if organization_id is not None:
        query = query.where(Project.organization_id == organization_id)
    if project_id is not None:
        query = query.where(Project.id == project_id)
    return [(row[0], row[1]) for row in session.execute(query)]


def hide_project(project: Project, now: datetime) -> None:
    """From now on nobody finds the project, and its name is free."""
    project.deleted_at = now
    project.name = f"deleted:{project.id}"  # no name that somebody could choose


def hide_job(job: Job, now: datetime) -> None:
    """From now on nobody finds the job; its run, should it go on, is another one."""
    job.deleted_at = now
    job.run_id = None


def hide_organization(session: Session, organization: Organization, now: datetime) -> None:
    """From now on nobody finds the organization and its projects, and its name is free."""
    organization.deleted_at = now
    organization.name = f"deleted:{organization.id}"
    query = select(Project).where(
        Project.organization_id == organization.id, Project.deleted_at.is_(None)
    )
    for project in session.scalars(query):
        hide_project(project, now)
    for table in (Membership, Invitation):
        session.execute(delete(table).where(table.organization_id == organization.id))


def deleted_projects(session: Session) -> list[str]:
    """The projects that are to be removed."""
    return list(session.scalars(select(Project.id).where(Project.deleted_at.is_not(None))))


def remove_job(session: Session, site: str, now: datetime) -> tuple[str, list[str]] | None:
    """Remove one of the deleted jobs with its history, unless it runs.

    One with node folders on other servers is left to them, for some days: only its own folders go.
    Messages that tell of a job stay: some may have to be sent yet.

    Args:
        site: The server whose node folders of the job are removed with it.

    Returns:
        Its id, and the ids of its attempts whose logs go; None if there is no such job.
    """
    given_up = now - _FOREIGN_FOLDERS_KEPT
    is_foreign = Node.site.not_in(("", site))
    query = select(Job).where(
        _is_deleted_before(now),
        Job.status.not_in(ACTIVE),
        or_(
            _has_folders(~is_foreign),
            ~_has_folders(is_foreign),
            _is_deleted_before(given_up),
        ),
    )
    job = session.scalars(claim(query.limit(1), to_delete=True)).first()
    if job is None:
        return None
    attempts = list(session.scalars(select(Attempt.id).where(Attempt.job_id == job.id)))
    is_left = select(Job.id).where(
        Job.id == job.id, _has_folders(is_foreign), ~_is_deleted_before(given_up)
    )
    if session.scalar(is_left) is not None:
        own = update(Node).where(Node.attempt_id.in_(attempts), ~is_foreign)
        session.execute(own.values(folder=""))
        return job.id, []
    _remove_rows(session, job.id, attempts)
    return job.id, attempts


def _is_deleted_before(moment: datetime) -> ColumnElement[bool]:
    projects = select(Project.id).where(Project.deleted_at <= moment)
    return or_(
        and_(Job.deleted_at.is_not(None), Job.deleted_at <= moment), Job.project_id.in_(projects)
    )


def _has_folders(of: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a job has node folders on some servers."""
    return exists().where(
        Attempt.job_id == Job.id, Node.attempt_id == Attempt.id, Node.folder != "", of
    )


def _remove_rows(session: Session, job_id: str, attempts: list[str]) -> None:
    series = select(MetricSeries.id).where(MetricSeries.job_id == job_id)
    session.execute(delete(MetricChunk).where(MetricChunk.series_id.in_(series)))
    checkpoints = select(Checkpoint.id).where(Checkpoint.job_id == job_id)
    session.execute(delete(CheckpointPart).where(CheckpointPart.checkpoint_id.in_(checkpoints)))
    session.execute(
        update(Delivery).where(Delivery.job_id == job_id).values(job_id=None, event_id=None)
    )
    for table in (Checkpoint, MetricSeries, Event):
        session.execute(delete(table).where(table.job_id == job_id))
    for each in (JournalOffset, LogBatch, LogSegment, Node):
        session.execute(delete(each).where(each.attempt_id.in_(attempts)))
    session.execute(delete(Attempt).where(Attempt.job_id == job_id))
    session.execute(delete(Job).where(Job.id == job_id))


def remove_checkpoint(session: Session, checkpoint: Checkpoint) -> None:
    """Remove a checkpoint, with those of the same content that it stands for."""
    ids = [
        checkpoint.id,
        *session.scalars(select(Checkpoint.id).where(Checkpoint.duplicate_of == checkpoint.id)),
    ]
    session.execute(delete(CheckpointPart).where(CheckpointPart.checkpoint_id.in_(ids)))
    session.execute(delete(Checkpoint).where(Checkpoint.id.in_(ids)))


def remove_project(session: Session, project_id: str) -> None:
    """Remove a project with what it had, unless it has a job still."""
    if session.scalar(select(Job.id).where(Job.project_id == project_id).limit(1)) is not None:
        return
    for table in (DatasetVersion, Dataset, SnapshotChunk, Snapshot):
        session.execute(delete(table).where(table.project_id == project_id))
    session.execute(delete(Project).where(Project.id == project_id))


def remove_deleted_organizations(session: Session) -> int:
    """Remove the deleted organizations whose projects are gone; how many."""
    projects = select(Project.organization_id)
    query = select(Organization.id).where(
        Organization.deleted_at.is_not(None), Organization.id.not_in(projects)
    )
    gone = list(session.scalars(query))
    session.execute(delete(Organization).where(Organization.id.in_(gone)))
    return len(gone)
