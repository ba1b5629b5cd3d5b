"""First answers to creating requests, kept for repeats of the same delivery."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Index, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, utcnow

_KEPT = timedelta(hours=24)


class IdempotencyRecord(Base):
    __tablename__ = "idempotency_records"
    __table_args__ = (Index(None, "created_at"),)

    caller: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


def first_answer(session: Session, caller: str, path: str, key: str) -> str | None:
    """The answer given before to this caller, path and key."""
    query = select(IdempotencyRecord.answer).where(
        IdempotencyRecord.caller == caller,
        IdempotencyRecord.path == path,
        IdempotencyRecord.key == key,
    )
    return session.scalars(query).first()


def keep_answer(session: Session, caller: str, path: str, key: str, answer: str) -> None:
    """Keep an answer for repeats, and forget the old ones."""
    session.execute(
        delete(IdempotencyRecord).where(IdempotencyRecord.created_at < utcnow() - _KEPT)
    )
    session.add(IdempotencyRecord(caller=caller, path=path, key=key, answer=answer))
