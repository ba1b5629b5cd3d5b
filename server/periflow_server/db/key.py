"""API keys: what a machine logs in with, in one project."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ForeignKey,
    Index,
    Select,
    String,
    UniqueConstraint,
    delete,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, new_id, utcnow
from periflow_server.db.project import ProjectRole
from periflow_server.db.user import User


class ApiKey(Base):
    """Kept as SHA-256. It can do what its role may, and never more than its owner may now."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("project_id", "user_id", "name"),
        Index(None, "user_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    role: Mapped[ProjectRole] = mapped_column(String)
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


KeyRow = tuple[ApiKey, str]
"""A key and the username of its owner."""


def find_key(session: Session, token_hash: str) -> tuple[ApiKey, User] | None:
    """The key of this hash and its owner."""
    query = select(ApiKey, User).join(User, User.id == ApiKey.user_id)
    row = session.execute(query.where(ApiKey.token_hash == token_hash)).first()
    return (row[0], row[1]) if row else None


def keys_of(
    session: Session, project_id: str, user_id: str | None, *, after: str | None, limit: int
) -> list[KeyRow]:
    """The keys of a project by id, of one user or of all."""
    query = (
        select(ApiKey, User.username)
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.project_id == project_id)
        .order_by(ApiKey.id)
        .limit(limit)
    )
    if user_id is not None:
        query = query.where(ApiKey.user_id == user_id)
    if after is not None:
        query = query.where(ApiKey.id > after)
    return [(row[0], row[1]) for row in session.execute(query)]


def keys_called(session: Session, project_id: str, reference: str) -> list[KeyRow]:
    """The keys of a project with this name or id, or whose id begins so."""
    query = (
        select(ApiKey, User.username)
        .join(User, User.id == ApiKey.user_id)
        .where(
            ApiKey.project_id == project_id,
            or_(
                ApiKey.name == reference,
                ApiKey.id == reference,
                ApiKey.id.startswith(reference, autoescape=True),
            ),
        )
        .limit(20)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def forget_keys(session: Session, user_id: str, projects: Select[str] | list[str]) -> None:
    """Remove the keys of a user who is not in these projects any more."""
    session.execute(
        delete(ApiKey).where(ApiKey.user_id == user_id, ApiKey.project_id.in_(projects))
    )


def note_use(session: Session, key_id: str, now: datetime) -> None:
    """Keep when a key was last used."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(used_at=now))
