"""Metrics as columns, and how far each journal segment has been read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    UniqueConstraint,
    func,
    null,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.attempt import Attempt
from periflow_server.db.base import Base

_BigKey = BigInteger().with_variant(Integer, "sqlite")


class MetricSeries(Base):
    """One metric of one rank of a job, over all attempts. ``kind`` is ``number`` or ``text``."""

    __tablename__ = "metric_series"
    __table_args__ = (UniqueConstraint("job_id", "rank", "name", "kind"),)

    id: Mapped[int] = mapped_column(_BigKey, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    rank: Mapped[int]
    name: Mapped[str]
    kind: Mapped[str]
    last_step: Mapped[int] = mapped_column(BigInteger)
    last_value: Mapped[Any] = mapped_column(JSON)
    open_chunk_id: Mapped[int | None] = mapped_column(BigInteger)


class MetricChunk(Base):
    """Some consecutive points of a series: packed little-endian columns.

    ``process`` counts how often the rank had been started again within the attempt.
    ``extremes`` are the lowest and highest points of every block, packed the same way one after
    the other; a chunk that still grows has none. The small columns come first: a chart of a long
    series then never touches the pages of the large ones.
    """

    __tablename__ = "metric_chunks"
    __table_args__ = (Index(None, "series_id", "attempt", "id"),)

    id: Mapped[int] = mapped_column(_BigKey, primary_key=True, autoincrement=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("metric_series.id"))
    attempt: Mapped[int]
    process: Mapped[int] = mapped_column(default=0)
    count: Mapped[int]
    min_step: Mapped[int] = mapped_column(BigInteger)
    max_step: Mapped[int] = mapped_column(BigInteger)
    extremes: Mapped[bytes | None] = mapped_column(LargeBinary)
    steps: Mapped[bytes] = mapped_column(LargeBinary)
    times: Mapped[bytes] = mapped_column(LargeBinary)
    values: Mapped[bytes] = mapped_column(LargeBinary)


class ChunkHead(NamedTuple):
    """A chunk of ``size`` points without its columns; ``extremes`` only where asked for."""

    id: int
    attempt: int
    process: int
    size: int
    min_step: int
    max_step: int
    extremes: bytes | None


Columns = tuple[bytes, bytes, bytes]
"""Steps, times and values of a chunk, packed."""


class JournalOffset(Base):
    """How much of a journal segment is stored; advanced with the points, in one transaction.

    ``first_step`` is set where the rank was started again: the step that was done already.
    """

    __tablename__ = "journal_offsets"

    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    segment: Mapped[str] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger)
    first_step: Mapped[int | None] = mapped_column(BigInteger)


def journal_offset(session: Session, attempt_id: str, rank: int, segment: str) -> JournalOffset:
    """How much of the segment is stored; a new row for one that is not known yet."""
    row = session.get(JournalOffset, (attempt_id, rank, segment), with_for_update=True)
    if row is None:
        row = JournalOffset(attempt_id=attempt_id, rank=rank, segment=segment, offset=0)
        session.add(row)
    return row


def process_of(session: Session, attempt_id: str, rank: int, segment: str) -> int:
    """How often the rank had been started again when it began this segment."""
    query = select(func.count()).where(
        JournalOffset.attempt_id == attempt_id,
        JournalOffset.rank == rank,
        JournalOffset.segment <= segment,
        JournalOffset.first_step.is_not(None),
    )
    return session.scalar(query) or 0


class Restart(NamedTuple):
    """Where a rank was started again within an attempt: the step that was done already."""

    rank: int
    attempt: int
    first_step: int


def restarts_of(session: Session, job_id: str) -> list[Restart]:
    """The restarts of all ranks of a job, those of a rank in their order."""
    query = (
        select(JournalOffset.rank, Attempt.number, JournalOffset.first_step)
        .join(Attempt, Attempt.id == JournalOffset.attempt_id)
        .where(Attempt.job_id == job_id, JournalOffset.first_step.is_not(None))
        .order_by(Attempt.number, JournalOffset.rank, JournalOffset.segment)
    )
    return [Restart(rank, number, step or 0) for rank, number, step in session.execute(query)]


def series_of(session: Session, job_id: str, *, rank: int | None = None) -> list[MetricSeries]:
    """All series of a job, or of one rank of it, by name."""
    query = select(MetricSeries).where(MetricSeries.job_id == job_id)
    if rank is not None:
        query = query.where(MetricSeries.rank == rank)
    return list(session.scalars(query.order_by(MetricSeries.name, MetricSeries.rank)))


def series_named(session: Session, job_id: str, rank: int, name: str) -> list[MetricSeries]:
    """The series of this name: of numbers, of texts, or both (numbers first)."""
    query = select(MetricSeries).where(
        MetricSeries.job_id == job_id, MetricSeries.rank == rank, MetricSeries.name == name
    )
    return list(session.scalars(query.order_by(MetricSeries.kind)))


def open_chunks(session: Session, series: Iterable[MetricSeries]) -> dict[int, MetricChunk]:
    """The chunks that still grow, by series."""
    ids = [one.open_chunk_id for one in series if one.open_chunk_id is not None]
    found: dict[int, MetricChunk] = {}
    for start in range(0, len(ids), 500):
        query = select(MetricChunk).where(MetricChunk.id.in_(ids[start : start + 500]))
        found.update({chunk.series_id: chunk for chunk in session.scalars(query)})
    return found


def chunk_heads(session: Session, series_id: int, *, extremes: bool = False) -> list[ChunkHead]:
    """The chunks of a series in the order they came, without their large columns."""
    blob = MetricChunk.extremes if extremes else null()
    query = select(
        MetricChunk.id,
        MetricChunk.attempt,
        MetricChunk.process,
        MetricChunk.count,
        MetricChunk.min_step,
        MetricChunk.max_step,
        blob,
    )
    query = query.where(MetricChunk.series_id == series_id)
    rows = session.execute(query.order_by(MetricChunk.attempt, MetricChunk.id))
    return [ChunkHead(*row) for row in rows]


def numbers_around(
    session: Session, job_id: str, name: str, *, attempt: int, step: int
) -> list[tuple[int, bytes, bytes]]:
    """The chunks of an attempt that may have a step of a metric: rank, steps and values.

    They come in the order in which they were written.
    """
    query = (
        select(MetricSeries.rank, MetricChunk.steps, MetricChunk.values)
        .join(MetricChunk, MetricChunk.series_id == MetricSeries.id)
        .where(
            MetricSeries.job_id == job_id,
            MetricSeries.name == name,
            MetricSeries.kind == "number",
            MetricSeries.rank >= 0,
            MetricChunk.attempt == attempt,
            MetricChunk.min_step <= step,
            MetricChunk.max_step >= step,
        )
        .order_by(MetricChunk.id)
    )
    return [(row[0], row[1], row[2]) for row in session.execute(query)]


def chunk_columns(session: Session, series_id: int, first_id: int) -> dict[int, Columns]:
    """Steps, times and values of a series' chunks from ``first_id`` on, by chunk."""
    query = select(MetricChunk.id, MetricChunk.steps, MetricChunk.times, MetricChunk.values)
    query = query.where(MetricChunk.series_id == series_id, MetricChunk.id >= first_id)
    return {row[0]: (row[1], row[2], row[3]) for row in session.execute(query)}
