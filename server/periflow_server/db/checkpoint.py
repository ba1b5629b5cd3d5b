"""Checkpoints."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from periflow_server.db.base import Base, UtcDateTime, new_id, utcnow


class Checkpoint(Base):
    """What one `upload_checkpoint` produced.

    ``duplicate_of`` names the checkpoint of the same job, step and content that came first; a
    duplicate is kept only so that its agent's retries are answered.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("attempt_id", "upload_id"),
        Index("ix_checkpoints_job", "job_id", "step"),
        Index("ix_checkpoints_project", "project_id", "created_at"),
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
