"""Turns: work that every server looks for, and one at a time does."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, claim, utcnow
from periflow_server.db.engine import insert


class Turn(Base):
    """A kind of work, to be done again ``not_before``; who has the row locked is at it."""

    __tablename__ = "turns"

    name: Mapped[str] = mapped_column(primary_key=True)
    not_before: Mapped[datetime | None]


def take_turn(session: Session, name: str, every_seconds: float = 0.0) -> bool:
    """Whether the work is ours until the transaction ends.

    Args:
        every_seconds: Not before so long after the last turn of any server.

    Returns:
        False when another server is at it now, or was within the interval.
    """
    query = claim(select(Turn).where(Turn.name == name))
    turn = session.scalars(query).first()
    if turn is None and session.get(Turn, name) is None:
        session.execute(insert(session, Turn).values(name=name).on_conflict_do_nothing())
        turn = session.scalars(query).first()
    now = utcnow()
    if turn is None or (turn.not_before is not None and turn.not_before > now):
        return False
    turn.not_before = now + timedelta(seconds=every_seconds) if every_seconds else None
    return True
