"""Checkpoints."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Select,
    UniqueConstraint,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_sdk.api.models import TERMINAL_STATUSES
from periflow_server.db.base import Base, UtcDateTime, new_id, utcnow
from periflow_server.db.job import Job


class Checkpoint(Base):
    """What one `upload_checkpoint` produced.

    ``duplicate_of`` names the checkpoint of the same job, step and content that came first; a
    duplicate is kept only so that its agent's retries are answered. So is one that the job's
    retention rules have removed: with ``removed_at`` nobody finds it, and it holds no snapshot.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("attempt_id", "upload_id"),
        Index(None, "job_id", "step"),
        Index(None, "project_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))
    attempt_number: Mapped[int]
    upload_id: Mapped[str]
    step: Mapped[int] = mapped_column(BigInteger)
    save_type: Mapped[str]
    status: Mapped[str] = mapped_column(default="uploading")
    size: Mapped[int] = mapped_column(BigInteger)
    snapshot_id: Mapped[str | None]
    reason: Mapped[str | None]
    duplicate_of: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


CheckpointRow = tuple[Checkpoint, int]
"""A checkpoint and the number of its job."""
Position = tuple[datetime, str]
"""Where a page of the list ended: moment and id."""


def checkpoints_of(
    session: Session,
    project_id: str,
    *,
    job_id: str | None = None,
    after: Position | None = None,
    limit: int,
) -> list[CheckpointRow]:
    """Checkpoints of the project or of one job, newest first."""
    query = _shown(project_id).order_by(Checkpoint.created_at.desc(), Checkpoint.id.desc())
    if job_id is not None:
        query = query.where(Checkpoint.job_id == job_id)
    if after is not None:
        query = query.where(tuple_(Checkpoint.created_at, Checkpoint.id) < after)
    return [(row[0], row[1]) for row in session.execute(query.limit(limit))]


def checkpoint_with_id(
    session: Session, project_id: str, checkpoint_id: str
) -> CheckpointRow | None:
    """The checkpoint of this id."""
    row = session.execute(_shown(project_id).where(Checkpoint.id == checkpoint_id)).first()
    return (row[0], row[1]) if row else None


def checkpoints_with_prefix(session: Session, project_id: str, prefix: str) -> list[CheckpointRow]:
    """Some of the checkpoints whose id begins so."""
    query = _shown(project_id).where(Checkpoint.id.startswith(prefix, autoescape=True))
    return [(row[0], row[1]) for row in session.execute(query.limit(20))]


def latest_checkpoint(session: Session, project_id: str) -> CheckpointRow | None:
    """The newest checkpoint of the project that is ready."""
    query = _shown(project_id).where(Checkpoint.status == "ready")
    query = query.order_by(Checkpoint.created_at.desc(), Checkpoint.id.desc()).limit(1)
    row = session.execute(query).first()
    return (row[0], row[1]) if row else None


def newest_ready(session: Session, job_id: str) -> Checkpoint | None:
    """What the job's next attempt starts from."""
    return next(iter(ready_of(session, job_id, limit=1)), None)


def ready_of(session: Session, job_id: str, *, limit: int | None = None) -> list[Checkpoint]:
    """The checkpoints that an attempt of the job may start from, the best first."""
    query = select(Checkpoint).where(
        Checkpoint.job_id == job_id,
        Checkpoint.status == "ready",
        Checkpoint.duplicate_of.is_(None),
        Checkpoint.removed_at.is_(None),
    )
    query = query.order_by(Checkpoint.attempt_number.desc(), Checkpoint.step.desc())
    return list(session.scalars(query.order_by(Checkpoint.created_at.desc()).limit(limit)))


def newest_emergency(session: Session, job_id: str) -> Checkpoint | None:
    """The newest checkpoint of a job that was saved in an emergency and is ready."""
    query = select(Checkpoint).where(
        Checkpoint.job_id == job_id,
        Checkpoint.save_type == "EMERGENCY",
        Checkpoint.status == "ready",
    )
    return session.scalars(query.order_by(Checkpoint.finished_at.desc()).limit(1)).first()


def jobs_given(session: Session, *, job_id: str, checkpoint_id: str | None = None) -> list[int]:
    """The numbers of the jobs that have not ended and were given a checkpoint to start from.

    Args:
        job_id: Whose checkpoint it is.
        checkpoint_id: Only this one of its checkpoints.
    """
    given = select(Checkpoint.id).where(Checkpoint.job_id == job_id)
    if checkpoint_id is not None:
        given = given.where(Checkpoint.id == checkpoint_id)
    query = select(Job.number).where(
        Job.input_checkpoint_id.in_(given), Job.status.not_in(TERMINAL_STATUSES)
    )
    return list(session.scalars(query.order_by(Job.number)))


def given_to_jobs(session: Session, job_id: str) -> set[str]:
    """The checkpoints of a job that job files of others name as input, ended or not."""
    given = select(Checkpoint.id).where(Checkpoint.job_id == job_id)
    query = select(Job.input_checkpoint_id).where(
        Job.input_checkpoint_id.in_(given), Job.deleted_at.is_(None)
    )
    return {each for each in session.scalars(query) if each is not None}


def retire(session: Session, checkpoint: Checkpoint, now: datetime) -> None:
    """From now on nobody finds the checkpoint, and its files go with the next collection."""
    checkpoint.removed_at = now
    same = or_(Checkpoint.id == checkpoint.id, Checkpoint.duplicate_of == checkpoint.id)
    session.execute(update(Checkpoint).where(same).values(snapshot_id=None))


def upload_of(session: Session, attempt_id: str, upload_id: str) -> Checkpoint | None:
    """The checkpoint that an agent knows by its own id."""
    query = select(Checkpoint).where(
        Checkpoint.attempt_id == attempt_id, Checkpoint.upload_id == upload_id
    )
    return session.scalars(query).first()


def same_content(session: Session, checkpoint: Checkpoint, snapshot_id: str) -> Checkpoint | None:
    """A ready checkpoint of the same job and step with this snapshot, other than this one."""
    query = select(Checkpoint).where(
        Checkpoint.job_id == checkpoint.job_id,
        Checkpoint.step == checkpoint.step,
        Checkpoint.snapshot_id == snapshot_id,
        Checkpoint.status == "ready",
        Checkpoint.duplicate_of.is_(None),
        Checkpoint.id != checkpoint.id,
    )
    return session.scalars(query.limit(1)).first()


def _shown(project_id: str) -> Select[Checkpoint, int]:
    return (
        select(Checkpoint, Job.number)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(
            Checkpoint.project_id == project_id,
            Checkpoint.duplicate_of.is_(None),
            Checkpoint.removed_at.is_(None),
            Job.deleted_at.is_(None),
        )
    )
