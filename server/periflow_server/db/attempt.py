"""Attempts of jobs, and the nodes they run on."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from periflow_server.db.base import Base, UtcDateTime, new_id, utcnow


class Attempt(Base):
    """One run of a job. ``first_step`` is the smallest step it has finished so far."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    number: Mapped[int]
    status: Mapped[str] = mapped_column(default="allocating", index=True)
    reason: Mapped[str | None]
    exit_code: Mapped[int | None]
    restore_checkpoint_id: Mapped[str | None]
    first_step: Mapped[int | None] = mapped_column(BigInteger)
    unreadable_lines: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Node(Base):
    """One node of an attempt: where its agent is and what it last said.

    ``starts`` counts how often the agent was started since its last heartbeat.
    """

    __tablename__ = "nodes"
    __table_args__ = (UniqueConstraint("attempt_id", "rank"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))
    rank: Mapped[int]
    devices: Mapped[list[int]] = mapped_column(JSON, default=list)
    folder: Mapped[str]
    starts: Mapped[int] = mapped_column(default=0)
    hostname: Mapped[str | None]
    address: Mapped[str | None]
    port: Mapped[int | None]
    pid: Mapped[int | None]
    phase: Mapped[str | None]
    outcome: Mapped[str | None]
    exit_code: Mapped[int | None]
    registered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
