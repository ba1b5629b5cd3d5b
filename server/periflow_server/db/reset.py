"""Password resets that wait for their code."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, new_id, utcnow


class PasswordReset(Base):
    """Without a user it is one that nobody can finish: asked for by a name that nobody has."""

    __tablename__ = "password_resets"
    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"))

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    code_hash: Mapped[str]
    attempts_left: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]


def newest_reset(session: Session, user_id: str) -> PasswordReset | None:
    """The reset whose code works, held until the end of the transaction."""
    query = select(PasswordReset).where(PasswordReset.user_id == user_id)
    query = query.order_by(PasswordReset.created_at.desc()).limit(1).with_for_update()
    return session.scalars(query).first()


def forget_resets(session: Session, user_id: str | None) -> None:
    """Remove those of a user, and all that are over."""
    over = PasswordReset.expires_at < utcnow()
    session.execute(delete(PasswordReset).where((PasswordReset.user_id == user_id) | over))
