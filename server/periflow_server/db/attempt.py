"""Attempts of jobs, and the nodes they run on."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, UtcDateTime, new_id, utcnow
from periflow_server.db.job import Job

LIVE = ("allocating", "preparing", "running")
"""Statuses of attempts that have not ended."""


class Attempt(Base):
    """One run of a job. ``first_step`` is the smallest step it has finished so far.

    ``system`` is what each node's agent said of its machine, by the node's rank.
    ``noticed_at`` is when it was told that it will be preempted or stopped, ``deadline_at`` when
    its node goes, if that is known. ``finished_early``: its script was done before the last of the
    planned steps, and said so. ``verdict`` is how it ends (``status``, ``reason``, ``exit_code``),
    once one of its several nodes has ended badly; ``round`` is the emergency round of several nodes
    (see ``periflow_sdk._emergency.Round``).
    """

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    number: Mapped[int]
    status: Mapped[str] = mapped_column(default="allocating", index=True)
    reason: Mapped[str | None]
    exit_code: Mapped[int | None]
    finished_early: Mapped[bool] = mapped_column(default=False)
    restore_checkpoint_id: Mapped[str | None]
    first_step: Mapped[int | None] = mapped_column(BigInteger)
    unreadable_lines: Mapped[int] = mapped_column(default=0)
    system: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    noticed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deadline_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    verdict: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    round: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Node(Base):
    """One node of an attempt: where its agent is and what it last said.

    ``site`` is the server whose executor looks after the agent; on SQLite there is only one.

    ``starts`` counts how often the agent was started since it last ran its command. ``folder`` is
    empty where no executor started the agent: it came by itself, beside an attached run.
    ``credentials_closed_at`` is when the agent had what it needs: none are given out after it.
    ``passed`` is what a node of several said of its ranks and their checkpoints: ``generations``
    (generation → last step passed, and whether it remains so) and ``agreed``; ``words`` is
    what it last said of them in an emergency round.
    """

    __tablename__ = "nodes"
    __table_args__ = (UniqueConstraint("attempt_id", "rank"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))
    rank: Mapped[int]
    devices: Mapped[list[int]] = mapped_column(JSON, default=list)
    folder: Mapped[str]
    site: Mapped[str] = mapped_column(default="", server_default="")
    starts: Mapped[int] = mapped_column(default=0)
    hostname: Mapped[str | None]
    address: Mapped[str | None]
    port: Mapped[int | None]
    pid: Mapped[int | None]
    phase: Mapped[str | None]
    outcome: Mapped[str | None]
    exit_code: Mapped[int | None]
    reason: Mapped[str | None]
    passed: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    words: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    registered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    credentials_closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def attempts_of(session: Session, job_id: str) -> list[Attempt]:
    """The attempts of a job, oldest first."""
    query = select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)
    return list(session.scalars(query))


def attempt_numbered(session: Session, job_id: str, number: int) -> Attempt | None:
    """The attempt of this number."""
    query = select(Attempt).where(Attempt.job_id == job_id, Attempt.number == number)
    return session.scalars(query).first()


def newest_attempt(session: Session, job_id: str) -> Attempt | None:
    """The attempt of a job that runs, or ran last."""
    query = select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number.desc())
    return session.scalars(query.limit(1)).first()


def noticed_preemptions(session: Session, job_id: str) -> int:
    """How many attempts of a job ended because their nodes were taken, with notice."""
    query = select(func.count()).where(
        Attempt.job_id == job_id, Attempt.status == "preempted", Attempt.noticed_at.is_not(None)
    )
    return session.scalar(query) or 0


def nodes_of(session: Session, attempt_id: str) -> list[Node]:
    """The nodes of an attempt, by rank."""
    query = select(Node).where(Node.attempt_id == attempt_id).order_by(Node.rank)
    return list(session.scalars(query))


def lock_attempt(session: Session, attempt_id: str) -> None:
    """Let nobody else change the attempt until this transaction ends: its nodes speak at once."""
    session.execute(select(Attempt.id).where(Attempt.id == attempt_id).with_for_update())


def node_ranked(session: Session, attempt_id: str, rank: int) -> Node | None:
    """One node of an attempt."""
    query = select(Node).where(Node.attempt_id == attempt_id, Node.rank == rank)
    return session.scalars(query).first()


def live_nodes(session: Session) -> list[tuple[Node, Attempt]]:
    """The nodes of all attempts that have not ended."""
    query = select(Node, Attempt).join(Attempt, Attempt.id == Node.attempt_id)
    query = query.where(Attempt.status.in_(LIVE), Node.outcome.is_(None))
    return [(row[0], row[1]) for row in session.execute(query)]


def ending_attempts(session: Session) -> list[Attempt]:
    """The attempts that end because one of their nodes has ended badly."""
    query = select(Attempt).where(Attempt.status.in_(LIVE), Attempt.verdict.is_not(None))
    return list(session.scalars(query))


def lost_nodes(session: Session, site: str) -> list[Node]:
    """The nodes of one server's attempts that were given up."""
    query = select(Node).join(Attempt, Attempt.id == Node.attempt_id)
    return list(session.scalars(query.where(Attempt.status == "node-lost", Node.site == site)))


def ended_nodes(session: Session, site: str) -> list[Node]:
    """The nodes of one server's attempts that have ended and that its executor had started."""
    query = select(Node).join(Attempt, Attempt.id == Node.attempt_id)
    query = query.where(Attempt.status.not_in(LIVE), Node.folder != "", Node.site == site)
    return list(session.scalars(query))


def busy_devices(session: Session, vms: Collection[str]) -> set[int]:
    """Indices of the devices that live attempts on these VM types hold."""
    query = (
        select(Node.devices)
        .join(Attempt, Attempt.id == Node.attempt_id)
        .join(Job, Job.id == Attempt.job_id)
        .where(Attempt.status.in_(LIVE), Job.vm.in_(vms))
    )
    return {device for devices in session.scalars(query) for device in devices}
