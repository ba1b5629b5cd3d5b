"""Mails that wait for the mail server, and what became of each."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import Index, String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, claim, new_id, utcnow

MailStatus = Literal["waiting", "sending", "sent", "failed", "void"]


class Mail(Base):
    """One mail to one reader.

    ``sealed`` is the whole message; it goes when the mail was sent, for it may hold a code. A mail
    that is ``void`` from the start goes to nobody: writing it takes as long as writing a real one.
    """

    __tablename__ = "mails"
    __table_args__ = (Index(None, "status", "next_try_at"), Index(None, "finished_at"))

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    recipient: Mapped[str]
    sealed: Mapped[str | None]
    status: Mapped[MailStatus] = mapped_column(String, default="waiting")
    tries: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    claimed_at: Mapped[datetime | None]
    next_try_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


def has_due(session: Session, now: datetime) -> bool:
    """Whether a mail is to be sent now."""
    query = select(Mail.id).where(Mail.status == "waiting", Mail.next_try_at <= now)
    return session.scalars(query.limit(1)).first() is not None


def due_mails(session: Session, now: datetime, limit: int) -> list[Mail]:
    """Mails to send now that no other server has taken; ours until the end."""
    query = (
        select(Mail)
        .where(Mail.status == "waiting", Mail.next_try_at <= now)
        .order_by(Mail.next_try_at, Mail.created_at)
        .limit(limit)
    )
    return list(session.scalars(claim(query)))


def claimed_before(session: Session, moment: datetime) -> list[Mail]:
    """Mails that a server took so long ago that it must be gone."""
    query = select(Mail).where(Mail.status == "sending", Mail.claimed_at < moment)
    return list(session.scalars(claim(query)))


def forget_mails(session: Session, before: datetime) -> None:
    """Remove what was settled before this moment."""
    session.execute(delete(Mail).where(Mail.finished_at < before))
