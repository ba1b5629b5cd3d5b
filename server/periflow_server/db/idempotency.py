"""First answers to creating requests, kept for repeats of the same delivery."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Index, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, utcnow
from periflow_server.db.engine import insert

_KEPT = timedelta(hours=24)


class IdempotencyRecord(Base):
    __tablename__ = "idempotency_records"
    __table_args__ = (Index(None, "created_at"),)

    caller: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


def first_answer(session: Session, caller: str, path: str, key: str) -> str:
    """The answer given before to this caller, path and key, which is known to exist."""
    query = select(IdempotencyRecord.answer).where(
        IdempotencyRecord.caller == caller,
        IdempotencyRecord.path == path,
        IdempotencyRecord.key == key,
    )
    return session.scalars(query).one()


def reserve_key(session: Session, caller: str, path: str, key: str) -> bool:
    """Keep the key for the answer that is about to be made, and forget the old ones.

    Returns:
        False when it has an answer. Who makes one at this moment is waited for.
    """
    session.execute(
        delete(IdempotencyRecord).where(IdempotencyRecord.created_at < utcnow() - _KEPT)
    )
    row = {"caller": caller, "path": path, "key": key, "answer": "", "created_at": utcnow()}
    first = insert(session, IdempotencyRecord).values(row).on_conflict_do_nothing()
    return session.scalar(first.returning(IdempotencyRecord.key)) is not None


def keep_answer(session: Session, caller: str, path: str, key: str, answer: str) -> None:
    """Keep the answer for repeats."""
    session.get_one(IdempotencyRecord, (caller, path, key)).answer = answer
