"""Notifications: the rules of projects, and the outbox of messages with what became of each."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, UtcDateTime, claim, new_id, utcnow
from periflow_server.db.user import User


class Notification(Base):
    """A rule: whom to tell of which changes in a project.

    ``target`` is the receiver in a form that can be compared, ``label`` in one that people may
    see. ``sealed`` is the address and secret of a webhook, ``user_id`` the reader of an email.
    """

    __tablename__ = "notifications"
    __table_args__ = (UniqueConstraint("project_id", "target"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    kind: Mapped[str]
    on: Mapped[list[str]] = mapped_column(JSON)
    target: Mapped[str]
    label: Mapped[str]
    credential_id: Mapped[str | None] = mapped_column(index=True)
    channel: Mapped[str | None]
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    sealed: Mapped[str | None]
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Delivery(Base):
    """One message to one receiver, written in the transaction of the change that it tells of.

    No change has two messages to one target. ``notification_id`` is None where the job file
    names the receiver, ``event_id`` for a test. ``content`` is what the message says.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "target"),
        Index(None, "status", "next_try_at"),
        Index(None, "notification_id", "created_at"),
        Index(None, "job_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    notification_id: Mapped[str | None] = mapped_column(
        ForeignKey("notifications.id", ondelete="CASCADE")
    )
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    event_id: Mapped[int | None] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    kind: Mapped[str]
    target: Mapped[str]
    credential_id: Mapped[str | None]
    channel: Mapped[str | None]
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(default="waiting")
    tries: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    claimed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    next_try_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=utcnow)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


NotificationRow = tuple[Notification, str]
"""A rule and the name of the user who made it."""


def notifications_of(
    session: Session, project_id: str, *, after: str | None = None, limit: int = 500
) -> list[NotificationRow]:
    """The rules of a project with ids greater than ``after``, by id."""
    query = (
        select(Notification, User.username)
        .join(User, User.id == Notification.created_by)
        .where(Notification.project_id == project_id)
        .order_by(Notification.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Notification.id > after)
    return [(row[0], row[1]) for row in session.execute(query)]


def notifications_with_prefix(
    session: Session, project_id: str, prefix: str
) -> list[NotificationRow]:
    """Some of the rules whose id begins so."""
    query = (
        select(Notification, User.username)
        .join(User, User.id == Notification.created_by)
        .where(
            Notification.project_id == project_id,
            Notification.id.startswith(prefix, autoescape=True),
        )
        .limit(20)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def has_target(session: Session, project_id: str, target: str) -> bool:
    """Whether a rule of the project tells this receiver already."""
    query = select(Notification.id).where(
        Notification.project_id == project_id, Notification.target == target
    )
    return session.scalars(query).first() is not None


def notification_count(session: Session, project_id: str) -> int:
    """How many rules a project has."""
    query = select(func.count()).where(Notification.project_id == project_id)
    return session.scalar(query) or 0


def deliveries_of(
    session: Session, notification_id: str, *, before: datetime | None, limit: int
) -> list[Delivery]:
    """The messages of a rule, newest first."""
    query = (
        select(Delivery)
        .where(Delivery.notification_id == notification_id)
        .order_by(Delivery.created_at.desc(), Delivery.id)
        .limit(limit)
    )
    if before is not None:
        query = query.where(Delivery.created_at < before)
    return list(session.scalars(query))


def has_due(session: Session, now: datetime) -> bool:
    """Whether a message is to be sent now."""
    query = select(Delivery.id).where(Delivery.status == "waiting", Delivery.next_try_at <= now)
    return session.scalars(query.limit(1)).first() is not None


def claim_due(
    session: Session, now: datetime, *, limit: int, besides: Collection[str] = ()
) -> list[Delivery]:
    """Take messages that are due; another server skips them meanwhile.

    Args:
        besides: Projects whose turn it is not.
    """
    query = (
        select(Delivery)
        .where(Delivery.status == "waiting", Delivery.next_try_at <= now)
        .order_by(Delivery.next_try_at, Delivery.created_at)
        .limit(limit)
    )
    if besides:
        query = query.where(Delivery.project_id.not_in(besides))
    return list(session.scalars(claim(query)))


def held_delivery(session: Session, delivery_id: str) -> Delivery | None:
    """A message that nobody else changes until the transaction ends."""
    return session.get(Delivery, delivery_id, with_for_update=True)


def claimed_before(session: Session, moment: datetime) -> list[Delivery]:
    """Messages that somebody took so long ago that he must be gone."""
    query = select(Delivery).where(Delivery.status == "sending", Delivery.claimed_at < moment)
    return list(session.scalars(claim(query)))


def forget_deliveries(session: Session, before: datetime) -> int:
    """Remove what was settled before this moment; how many messages."""
    query = delete(Delivery).where(Delivery.finished_at < before)
    return session.execute(query).rowcount  # type: ignore[attr-defined,no-any-return]
