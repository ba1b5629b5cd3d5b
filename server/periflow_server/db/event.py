"""Events: the history of a job, as a person reads it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, UtcDateTime, utcnow


class Event(Base):
    """One line of a job's history. Ids count up: they are the order."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    attempt: Mapped[int | None]
    kind: Mapped[str]
    message: Mapped[str]
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


def add_event(
    session: Session, job_id: str, kind: str, message: str, *, attempt: int | None = None
) -> None:
    """Write one line of a job's history."""
    session.add(Event(job_id=job_id, kind=kind, message=message, attempt=attempt))


def events_of(session: Session, job_id: str) -> list[Event]:
    """A job's history, oldest first."""
    return list(session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.id)))


def find_event(
    session: Session, job_id: str, kind: str, *, attempt: int | None, message: str | None = None
) -> Event | None:
    """The newest event of this kind (and text) in an attempt."""
    query = select(Event).where(
        Event.job_id == job_id, Event.kind == kind, Event.attempt == attempt
    )
    if message is not None:
        query = query.where(Event.message == message)
    return session.scalars(query.order_by(Event.id.desc()).limit(1)).first()
