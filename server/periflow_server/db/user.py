"""Users, and signups that wait for their code."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, delete, func, or_, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, new_id, utcnow


class User(Base):
    __tablename__ = "users"
    __table_args__ = (Index("ix_users_username_lower", text("lower(username)"), unique=True),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    username: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Signup(Base):
    """A signup whose email address is not proved yet. A later one of the name replaces it."""

    __tablename__ = "signups"

    username: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    password_hash: Mapped[str]
    code_hash: Mapped[str]
    attempts_left: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]


def find_user(session: Session, login: str) -> User | None:
    """The user of this username or email address."""
    query = select(User).where(or_(User.username == login, User.email == login.lower()))
    return session.scalars(query.limit(1)).first()


def user_named(session: Session, username: str) -> User | None:
    """The user of this username, in any case: ``Ada`` and ``ada`` would be taken for each other."""
    query = select(User).where(func.lower(User.username) == username.lower())
    return session.scalars(query.limit(1)).first()


def user_with_address(session: Session, email: str) -> User | None:
    """The user of this email address."""
    return session.scalars(select(User).where(User.email == email.lower())).first()


def forget_expired_signups(session: Session) -> None:
    """Remove signups whose code can no longer be used."""
    session.execute(delete(Signup).where(Signup.expires_at < utcnow()))
