"""Logins: one for every time that somebody logged in, until it ends."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import ForeignKey, Index, String, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, utcnow

EndReason = Literal["logout", "password", "reuse"]


class Login(Base):
    """``id`` is the family of its tokens, ``seen_at`` when it was last refreshed."""

    __tablename__ = "logins"
    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"))

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    client: Mapped[str]
    address: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    seen_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[EndReason | None] = mapped_column(String)


def open_logins(
    session: Session, user_id: str, *, after: tuple[datetime, str] | None, limit: int
) -> list[Login]:
    """The user's logins that work, newest first."""
    query = (
        select(Login)
        .where(Login.user_id == user_id, Login.ended_at.is_(None), Login.expires_at > utcnow())
        .order_by(Login.created_at.desc(), Login.id)
        .limit(limit)
    )
    if after is not None:
        moment, last = after
        query = query.where(
            (Login.created_at < moment) | ((Login.created_at == moment) & (Login.id > last))
        )
    return list(session.scalars(query))


def logins_with_prefix(session: Session, user_id: str, prefix: str) -> list[Login]:
    """Some of the user's logins that work and whose id begins so."""
    query = (
        select(Login)
        .where(
            Login.user_id == user_id,
            Login.ended_at.is_(None),
            Login.id.startswith(prefix, autoescape=True),
        )
        .limit(20)
    )
    return list(session.scalars(query))


def end_logins(
    session: Session, user_id: str, reason: EndReason, *, besides: str | None = None
) -> list[str]:
    """End all logins of a user but one; which ones."""
    query = select(Login.id).where(Login.user_id == user_id, Login.ended_at.is_(None))
    if besides is not None:
        query = query.where(Login.id != besides)
    ids = list(session.scalars(query))
    for login_id in ids:
        end_login(session, login_id, reason)
    return ids


def end_login(session: Session, login_id: str, reason: EndReason) -> None:
    """Note that a login is over; its tokens are ended apart."""
    session.execute(
        update(Login)
        .where(Login.id == login_id, Login.ended_at.is_(None))
        .values(ended_at=utcnow(), end_reason=reason)
    )


def forget_logins(session: Session, before: datetime) -> None:
    """Remove what could not be used since this moment."""
    session.execute(delete(Login).where(Login.expires_at < before))
