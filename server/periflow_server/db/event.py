"""Events: the history of a job, as a person reads it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

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
