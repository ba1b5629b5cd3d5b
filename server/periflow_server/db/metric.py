"""Metrics as columns, and how far each journal segment has been read."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

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

    ``extremes`` are the lowest and highest points of every block, packed the same way one after
    the other; a chunk that still grows has none. The small columns come first: a chart of a long
    series then never touches the pages of the large ones.
    """

    __tablename__ = "metric_chunks"
    __table_args__ = (Index(None, "series_id", "attempt", "id"),)

    id: Mapped[int] = mapped_column(_BigKey, primary_key=True, autoincrement=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("metric_series.id"))
    attempt: Mapped[int]
    count: Mapped[int]
    min_step: Mapped[int] = mapped_column(BigInteger)
    max_step: Mapped[int] = mapped_column(BigInteger)
    extremes: Mapped[bytes | None] = mapped_column(LargeBinary)
    steps: Mapped[bytes] = mapped_column(LargeBinary)
    times: Mapped[bytes] = mapped_column(LargeBinary)
    values: Mapped[bytes] = mapped_column(LargeBinary)


class JournalOffset(Base):
    """How much of a journal segment is stored; advanced with the points, in one transaction."""

    __tablename__ = "journal_offsets"

    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    segment: Mapped[str] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger)
