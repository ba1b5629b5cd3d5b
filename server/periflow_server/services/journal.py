"""Journal lines into series, exactly once."""

from __future__ import annotations

from typing import Any, NamedTuple

from periflow_sdk.errors import ConflictError
from periflow_server.db import metric as db
from periflow_server.db.attempt import Attempt
from periflow_server.db.base import Session
from periflow_server.db.event import add_event
from periflow_server.db.job import Job
from periflow_server.db.metric import MetricChunk, MetricSeries
from periflow_server.services import attempt as attempts
from periflow_server.services.agent import note_progress
from periflow_server.services.points import Kind, Points, pack, pack_together, unpack
from periflow_server.services.record import Batch
from periflow_server.services.token import AttemptIdentity

LARGEST_CHUNK = 4096
CLOSED_CHUNK = 512
"""A chunk with so many points grows no more: slow series rewrite little, fast ones fill chunks."""


class _Writer(NamedTuple):
    """Who writes points of a rank: a process of an attempt. A chunk has points of one of them."""

    attempt: int
    process: int


def store(
    session: Session,
    identity: AttemptIdentity,
    rank: int,
    segment: str,
    offset: int,
    size: int,
    batch: Batch,
) -> int:
    """Store a batch and advance the segment's offset with it.

    Args:
        offset: Where in the segment the batch starts, in bytes.
        size: Length of the batch in bytes.
        batch: What its lines say.

    Returns:
        The next offset wanted.

    Raises:
        ConflictError: it starts elsewhere (``offset_mismatch``, ``data["offset"]``).
    """
    job, attempt, _ = attempts.of_agent(session, identity)
    accepted = db.journal_offset(session, attempt.id, rank, segment)
    if accepted.offset != offset:
        raise offset_mismatch(accepted.offset)
    accepted.offset = offset + size
    if batch.goes_on_at is not None:
        accepted.first_step = batch.goes_on_at
        session.flush()
    writer = _Writer(attempt.number, db.process_of(session, attempt.id, rank, segment))
    _append(session, job.id, rank, writer, batch)
    _note_records(session, job, attempt, batch)
    return accepted.offset


def offset_mismatch(wanted: int) -> ConflictError:
    """The answer to a batch that starts where it should not."""
    return ConflictError(
        f"The next byte wanted is at offset {wanted}.",
        code="offset_mismatch",
        data={"offset": wanted},
    )


def _note_records(session: Session, job: Job, attempt: Attempt, batch: Batch) -> None:
    note_progress(job, batch.last_step, batch.total_steps)
    if batch.config:
        job.config = {**(job.config or {}), **batch.config}
    if batch.first_step is not None:
        known = attempt.first_step
        attempt.first_step = batch.first_step if known is None else min(known, batch.first_step)
    if batch.unreadable:
        if attempt.unreadable_lines == 0:
            lines = "line" if batch.unreadable == 1 else "lines"
            message = f"{batch.unreadable} journal {lines} could not be read and were set aside."
            add_event(session, job.id, "warning", message, attempt=attempt.number)
        attempt.unreadable_lines += batch.unreadable


def _append(session: Session, job_id: str, rank: int, writer: _Writer, batch: Batch) -> None:
    if not batch.series:
        return
    known = {(one.name, one.kind): one for one in db.series_of(session, job_id, rank=rank)}
    touched: list[tuple[MetricSeries, Points]] = []
    for (name, kind), points in batch.series.items():
        series = known.get((name, kind))
        if series is None:
            series = MetricSeries(job_id=job_id, rank=rank, name=name, kind=kind)
            session.add(series)
        series.last_step = points.steps[-1]
        series.last_value = json_value(points.values[-1])
        touched.append((series, points))
    session.flush()
    growing = db.open_chunks(session, [series for series, _ in touched])
    newest: list[tuple[MetricSeries, MetricChunk | None]] = []
    for series, points in touched:
        newest.append((series, _extend(session, series, growing.get(series.id), writer, points)))
    session.flush()
    for series, chunk in newest:
        series.open_chunk_id = chunk.id if chunk else None


def _extend(
    session: Session,
    series: MetricSeries,
    tail: MetricChunk | None,
    writer: _Writer,
    points: Points,
) -> MetricChunk | None:
    """Append points to a series; the chunk that still grows after that, if any."""
    kind: Kind = "text" if series.kind == "text" else "number"
    if tail is not None and (tail.attempt, tail.process) == writer:
        whole = unpack(kind, tail.steps, tail.times, tail.values)
        whole.extend(points)
    else:
        tail, whole = None, points
    last: MetricChunk | None = None
    for start in range(0, len(whole), LARGEST_CHUNK):
        piece = whole.slice(start, start + LARGEST_CHUNK)
        last = tail if start == 0 and tail else _new_chunk(series, writer)
        _fill(last, kind, piece)
        session.add(last)
    return last if last is not None and last.extremes is None else None


def _new_chunk(series: MetricSeries, writer: _Writer) -> MetricChunk:
    return MetricChunk(series_id=series.id, attempt=writer.attempt, process=writer.process)


def _fill(chunk: MetricChunk, kind: Kind, points: Points) -> None:
    chunk.count = len(points)
    chunk.min_step, chunk.max_step = min(points.steps), max(points.steps)
    chunk.steps, chunk.times = pack(points.steps), pack(points.times)
    chunk.values = pack(points.values)
    if len(points) >= CLOSED_CHUNK:
        chunk.extremes = pack_together(points.extremes()) if kind == "number" else b""


def json_value(value: Any) -> Any:
    """A metric value as JSON has it: NaN and infinities are strings."""
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    return value
