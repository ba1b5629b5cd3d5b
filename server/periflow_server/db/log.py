"""The output of commands: fresh batches in the database, older ones in the object store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    ForeignKey,
    Integer,
    LargeBinary,
    UniqueConstraint,
    delete,
    func,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

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


Block = LogSegment | LogBatch
"""Consecutive bytes of a node's output, wherever they are kept."""
B = TypeVar("B", LogSegment, LogBatch)


def stream_end(session: Session, attempt_id: str, node: int) -> int:
    """How many bytes of a node's output are stored."""
    ends = [0]
    for table in (LogBatch, LogSegment):
        query = select(func.max(table.offset + table.size))
        ends.append(session.scalar(query.where(*_stream(table, attempt_id, node))) or 0)
    return max(ends)


def blocks_after(session: Session, attempt_id: str, node: int, offset: int) -> Iterator[Block]:
    """The blocks that hold what follows ``offset``, in order."""
    yield from _after(session, LogSegment, attempt_id, node, offset)
    yield from _after(session, LogBatch, attempt_id, node, offset)


def blocks_backwards(session: Session, attempt_id: str, node: int) -> Iterator[Block]:
    """All blocks, the last one first."""
    yield from _backwards(session, LogBatch, attempt_id, node)
    yield from _backwards(session, LogSegment, attempt_id, node)


def batches_of(session: Session, attempt_id: str, node: int) -> list[LogBatch]:
    """The batches that are still in the database, in order."""
    query = select(LogBatch).where(*_stream(LogBatch, attempt_id, node))
    return list(session.scalars(query.order_by(LogBatch.offset)))


def batched_bytes(session: Session, attempt_id: str, node: int) -> int:
    """How many bytes are still in the database."""
    query = select(func.sum(LogBatch.size)).where(*_stream(LogBatch, attempt_id, node))
    return session.scalar(query) or 0


def replace_batches(session: Session, segment: LogSegment) -> bool:
    """Put a segment in the place of the batches it holds; False when that was done before."""
    query = select(LogSegment.id).where(
        *_stream(LogSegment, segment.attempt_id, segment.node),
        LogSegment.offset >= segment.offset,
    )
    if session.scalars(query).first() is not None:
        return False
    session.execute(
        delete(LogBatch).where(
            *_stream(LogBatch, segment.attempt_id, segment.node),
            LogBatch.offset < segment.offset + segment.size,
        )
    )
    session.add(segment)
    return True


def _stream(
    table: type[LogBatch] | type[LogSegment], attempt_id: str, node: int
) -> tuple[ColumnElement[bool], ...]:
    return (table.attempt_id == attempt_id, table.node == node)


def _after(
    session: Session, table: type[B], attempt_id: str, node: int, offset: int
) -> Iterator[B]:
    query = select(table).where(*_stream(table, attempt_id, node))
    query = query.where(table.offset + table.size > offset).order_by(table.offset)
    return iter(session.scalars(query.execution_options(yield_per=16)))


def _backwards(session: Session, table: type[B], attempt_id: str, node: int) -> Iterator[B]:
    query = select(table).where(*_stream(table, attempt_id, node))
    query = query.order_by(table.offset.desc())
    return iter(session.scalars(query.execution_options(yield_per=16)))
