"""The output of commands: fresh batches in the database, older ones in the object store."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from periflow_server.db.base import Base, UtcDateTime, utcnow

_BigKey = BigInteger().with_variant(Integer, "sqlite")


class LogBatch(Base):
    """Bytes as an agent sent them, from ``offset`` of its node's output; ``time`` of arrival."""

    __tablename__ = "log_batches"
    __table_args__ = (UniqueConstraint("attempt_id", "node", "offset"),)

    id: Mapped[int] = mapped_column(_BigKey, primary_key=True, autoincrement=True)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))
    node: Mapped[int]
    offset: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int]
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class LogSegment(Base):
    """Many batches as one compressed object; ``marks`` are ``[offset, unix seconds]`` of each."""

    __tablename__ = "log_segments"
    __table_args__ = (UniqueConstraint("attempt_id", "node", "offset"),)

    id: Mapped[int] = mapped_column(_BigKey, primary_key=True, autoincrement=True)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))
    node: Mapped[int]
    offset: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str]
    marks: Mapped[list[Any]] = mapped_column(JSON)
