"""Tokens: opaque to who holds them, kept here only as SHA-256.

Kinds: ``access`` and ``refresh`` of a login (its ``family``), ``job`` of one node of an attempt
while it lives, ``late`` of one whose attempt has ended and left something unsent.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import ForeignKey, Index, String, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, new_id, utcnow
from periflow_server.db.user import User

TokenKind = Literal["access", "refresh", "job", "late"]


class Token(Base):
    __tablename__ = "tokens"
    __table_args__ = (Index(None, "family"), Index(None, "attempt_id"), Index(None, "expires_at"))

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[TokenKind] = mapped_column(String)
    token_hash: Mapped[str] = mapped_column(unique=True)
    family: Mapped[str | None]
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    attempt_id: Mapped[str | None] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"))
    job_id: Mapped[str | None]
    project_id: Mapped[str | None]
    node_rank: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


def find_token(session: Session, token_hash: str, *, locked: bool = False) -> Token | None:
    """The token of this hash, whatever its state.

    Args:
        locked: It is ours until the transaction ends.
    """
    query = select(Token).where(Token.token_hash == token_hash)
    return session.scalars(query.with_for_update() if locked else query).first()


def find_token_and_user(session: Session, token_hash: str) -> tuple[Token, User] | None:
    """The token of this hash, whatever its state, and its user; None if it is nobody's."""
    query = select(Token, User).join(User, User.id == Token.user_id)
    row = session.execute(query.where(Token.token_hash == token_hash)).first()
    return (row[0], row[1]) if row else None


def revoke_family(session: Session, family: str) -> None:
    """End a login: its access and refresh tokens stop working."""
    session.execute(
        update(Token)
        .where(Token.family == family, Token.revoked_at.is_(None))
        .values(revoked_at=utcnow())
    )


def revoke_attempt(session: Session, attempt_id: str) -> None:
    """End the job tokens of an attempt."""
    session.execute(
        update(Token)
        .where(Token.attempt_id == attempt_id, Token.revoked_at.is_(None))
        .values(revoked_at=utcnow())
    )


def forget_expired(session: Session) -> None:
    """Remove the tokens of logins that are over; job tokens stay, to be told apart as ended."""
    session.execute(delete(Token).where(Token.kind != "job", Token.expires_at < utcnow()))
