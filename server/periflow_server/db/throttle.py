"""How much of each limit is used up: one moment a key."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, claim
from periflow_server.db.engine import insert


class Throttle(Base):
    """``free_at``: when all that was used up is there again."""

    __tablename__ = "throttles"

    key: Mapped[str] = mapped_column(primary_key=True)
    free_at: Mapped[datetime] = mapped_column(index=True)


def locked_throttles(session: Session, keys: Collection[str], now: datetime) -> dict[str, Throttle]:
    """The rows of these keys, made where there are none, and ours until the end."""
    rows = [{"key": key, "free_at": now} for key in sorted(keys)]
    session.execute(insert(session, Throttle).values(rows).on_conflict_do_nothing())
    query = select(Throttle).where(Throttle.key.in_(keys)).order_by(Throttle.key)
    found = session.scalars(query.with_for_update().execution_options(populate_existing=True))
    return {row.key: row for row in found}


def forget_throttle(session: Session, key: str) -> None:
    """Give back all that was used up of one key."""
    session.execute(delete(Throttle).where(Throttle.key == key))


def forget_free_throttles(session: Session, now: datetime) -> None:
    """Remove some of what is no longer used up."""
    query = select(Throttle).where(Throttle.free_at < now).limit(500)
    for row in session.scalars(claim(query, to_delete=True)):
        session.delete(row)
    session.flush()
