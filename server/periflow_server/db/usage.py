"""The use of devices: what attempts held, and what is left of deleted projects and jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Double, ForeignKey, Index, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.attempt import Attempt, Node
from periflow_server.db.base import Base, new_id
from periflow_server.db.job import Job
from periflow_server.db.project import Project
from periflow_server.db.user import User


class UsageRecord(Base):
    """What a user had used in a month in a project, or by a job, that is deleted now."""

    __tablename__ = "usage_records"
    __table_args__ = (Index(None, "organization_id", "month"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    project: Mapped[str]
    username: Mapped[str]
    month: Mapped[str]
    device_seconds: Mapped[float] = mapped_column(Double)
    jobs: Mapped[int]


class Hold(NamedTuple):
    """The devices that one node of an attempt held; ``until`` is None while it does."""

    project: str
    username: str
    job_id: str
    devices: list[Any]
    since: datetime
    until: datetime | None


def holds(
    session: Session,
    organization_id: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    project_id: str | None = None,
    job_id: str | None = None,
) -> list[Hold]:
    """What was held in the organization's projects at some time between the two moments."""
    query = (
        select(
            Project.name,
            User.username,
            Job.id,
            Node.devices,
            Attempt.created_at,
            Attempt.finished_at,
        )
        .join(Job, Job.project_id == Project.id)
        .join(User, User.id == Job.created_by)
        .join(Attempt, Attempt.job_id == Job.id)
        .join(Node, Node.attempt_id == Attempt.id)
        # What a job or a project that is being deleted has used is in the records.
        .where(Project.organization_id == organization_id, Job.deleted_at.is_(None))
    )
    if job_id is not None:
        query = query.where(Job.id == job_id)
    if project_id is None:
        query = query.where(Project.deleted_at.is_(None))
    else:
        query = query.where(Project.id == project_id)
    if since is not None:
        query = query.where(or_(Attempt.finished_at.is_(None), Attempt.finished_at > since))
    if until is not None:
        query = query.where(Attempt.created_at < until)
    return [Hold(*row) for row in session.execute(query)]


def usage_records(
    session: Session, organization_id: str, first: str | None, last: str | None
) -> list[UsageRecord]:
    """What is left of deleted projects and jobs, of the months from ``first`` to ``last``."""
    query = select(UsageRecord).where(UsageRecord.organization_id == organization_id)
    if first is not None:
        query = query.where(UsageRecord.month >= first)
    if last is not None:
        query = query.where(UsageRecord.month <= last)
    return list(session.scalars(query))
