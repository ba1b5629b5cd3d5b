"""Jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from periflow_server.db.base import Base, UtcDateTime, new_id, utcnow


class Job(Base):
    """One job. ``number`` counts up within its project.

    ``datasets`` is what the names of the job file meant when the job was created: a list of
    ``{"name", "snapshot_id", "mount_path"}``. ``eligible_at`` holds a restart back for a while.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        Index("ix_jobs_project_name", "project_id", "name"),
        Index("ix_jobs_status", "status", "created_at"),
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
    log_tail: Mapped[list[str]] = mapped_column(JSON, default=list)
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    eligible_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
