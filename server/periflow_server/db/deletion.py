"""What is deleted is hidden at once, and then removed piece by piece."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, or_, select, update

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


def remove_job(session: Session) -> tuple[str, list[str]] | None:
    """Remove one of the deleted jobs with its history, unless it runs.

    Messages that tell of it stay: some may have to be sent yet.

    Returns:
        Its id, and the ids of its attempts; None if there is no such job.
    """
    of_deleted = Job.project_id.in_(select(Project.id).where(Project.deleted_at.is_not(None)))
    query = select(Job).where(
        or_(Job.deleted_at.is_not(None), of_deleted), Job.status.not_in(ACTIVE)
    )
    job = session.scalars(claim(query.limit(1), to_delete=True)).first()
    if job is None:
        return None
    job_id = job.id
    attempts = list(session.scalars(select(Attempt.id).where(Attempt.job_id == job_id)))
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
    return job_id, attempts


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
