"""Jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Select, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, defer, mapped_column

from periflow_sdk.api.models import JobFilter
from periflow_server.db.base import Base, UtcDateTime, claim, lock, new_id, utcnow
from periflow_server.db.project import Project
from periflow_server.db.user import User

ACTIVE = ("allocating", "preparing", "running", "stopping")
"""Statuses of jobs that hold devices."""


class Job(Base):
    """One job. ``number`` counts up within its project.

    ``datasets`` is what the names of the job file meant when the job was created: a list of
    ``{"name", "snapshot_id", "mount_path", "dataset_id", "version"}``; of a linked one
    ``snapshot_id`` is None. ``eligible_at`` holds a restart back for a while.
    ``run_id`` is the attached run's own name for itself, None for a job that was submitted.
    ``retention_due_at``: from then on its retention rules have something to look at.
    With ``deleted_at`` nobody finds it: what it had is removed in the background.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        UniqueConstraint("project_id", "run_id"),
        Index(None, "project_id", "name"),
        Index(None, "status", "created_at"),
        Index(None, "deleted_at"),
        Index(None, "retention_due_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    number: Mapped[int]
    name: Mapped[str]
    status: Mapped[str] = mapped_column(default="waiting")
    reason: Mapped[str | None]
    exit_code: Mapped[int | None]
    step: Mapped[int | None] = mapped_column(BigInteger)
    total_steps: Mapped[int | None] = mapped_column(BigInteger)
    vm: Mapped[str]
    device: Mapped[str]
    num_devices: Mapped[int]
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    shell: Mapped[dict[str, Any]] = mapped_column(JSON)
    workspace_snapshot_id: Mapped[str | None]
    workspace_name: Mapped[str | None]
    datasets: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    input_checkpoint_id: Mapped[str | None]
    config: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    git: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    run_id: Mapped[str | None]
    log_tail: Mapped[list[str]] = mapped_column(JSON, default=list)
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    eligible_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retention_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


_UNLISTED = [
    defer(column, raiseload=True)
    for column in (Job.spec, Job.shell, Job.config, Job.git, Job.log_tail)
]
JobRow = tuple[Job, str]
"""A job and the name of the user who created it."""


def next_number(session: Session, project_id: str) -> int:
    """The number that the project's next job gets; nobody else gets one until the end."""
    project = lock(session, session.get_one(Project, project_id))
    project.last_job_number += 1
    return project.last_job_number


def jobs_of(
    session: Session,
    project_id: str,
    user_id: str,
    chosen: JobFilter,
    *,
    before: int | None,
    limit: int,
) -> list[JobRow]:
    """The project's jobs that fit, with numbers smaller than ``before``, newest first.

    They come without what a list does not show, which is most of each.

    Args:
        user_id: Whose jobs are ``mine``.
    """
    query = _with_creator(project_id).order_by(Job.number.desc()).limit(limit)
    if before is not None:
        query = query.where(Job.number < before)
    if chosen.status:
        query = query.where(Job.status.in_(chosen.status))
    if chosen.since is not None:
        query = query.where(Job.created_at >= chosen.since)
    if chosen.until is not None:
        query = query.where(Job.created_at <= chosen.until)
    if chosen.name is not None:
        query = query.where(Job.name == chosen.name)
    if chosen.vm is not None:
        query = query.where(Job.vm == chosen.vm)
    if chosen.mine:
        query = query.where(Job.created_by == user_id)
    return [(row[0], row[1]) for row in session.execute(query.options(*_UNLISTED))]


def newest_job(session: Session, project_id: str) -> JobRow | None:
    """The job of the highest number."""
    return _first(session, _with_creator(project_id).order_by(Job.number.desc()).limit(1))


def job_numbered(session: Session, project_id: str, number: int) -> JobRow | None:
    """The job of this number."""
    return _first(session, _with_creator(project_id).where(Job.number == number))


def job_with_id(session: Session, project_id: str, job_id: str) -> JobRow | None:
    """The job of this id, if it is the project's."""
    return _first(session, _with_creator(project_id).where(Job.id == job_id))


def job_of_run(session: Session, project_id: str, run_id: str) -> JobRow | None:
    """The job of an attached run."""
    return _first(session, _with_creator(project_id).where(Job.run_id == run_id))


def jobs_named(session: Session, project_id: str, name: str, *, limit: int = 20) -> list[JobRow]:
    """The newest jobs of this name."""
    query = _with_creator(project_id).where(Job.name == name)
    query = query.order_by(Job.number.desc()).limit(limit)
    return [(row[0], row[1]) for row in session.execute(query)]


def jobs_with_prefix(session: Session, project_id: str, prefix: str) -> list[JobRow]:
    """Some of the jobs whose id begins so."""
    query = _with_creator(project_id).where(Job.id.startswith(prefix, autoescape=True)).limit(20)
    return [(row[0], row[1]) for row in session.execute(query)]


def waiting_jobs(session: Session) -> list[Job]:
    """All waiting jobs, in the order in which they get devices."""
    query = select(Job).where(Job.status == "waiting").order_by(Job.created_at, Job.id)
    return list(session.scalars(query))


def claim_waiting(session: Session, job: Job) -> Job | None:
    """The job, to be changed by us alone; None when it waits no more or somebody is at it."""
    query = select(Job).where(Job.id == job.id, Job.status == "waiting")
    return session.scalars(claim(query)).first()


def locked_job(session: Session, job_id: str) -> Job | None:
    """The job, once nobody else changes it; with it, its attempts and nodes are ours."""
    query = select(Job).where(Job.id == job_id).with_for_update(key_share=True)
    return session.scalars(query.execution_options(populate_existing=True)).first()


def note_due(session: Session, job_id: str) -> None:
    """Something has changed that the job's retention rules look at, if it has any."""
    job = session.get_one(Job, job_id)
    if job.spec.get("retention") is not None:
        job.retention_due_at = utcnow()


def due_for_retention(session: Session, now: datetime, *, limit: int) -> list[Job]:
    """The jobs whose checkpoints are to be looked at, the longest due first."""
    query = select(Job).where(Job.retention_due_at <= now).order_by(Job.retention_due_at)
    return list(session.scalars(query.limit(limit)))


def active_jobs(session: Session) -> list[Job]:
    """The jobs that hold devices, oldest first."""
    query = select(Job).where(Job.status.in_(ACTIVE)).order_by(Job.created_at, Job.id)
    return list(session.scalars(query))


def _with_creator(project_id: str) -> Select[Job, str]:
    return (
        select(Job, User.username)
        .join(User, User.id == Job.created_by)
        .where(Job.project_id == project_id, Job.deleted_at.is_(None))
    )


def _first(session: Session, query: Select[Job, str]) -> JobRow | None:
    row = session.execute(query).first()
    return (row[0], row[1]) if row else None
