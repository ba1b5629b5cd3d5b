"""Metrics of a job, read back."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite

from periflow_sdk.api import models as m
from periflow_sdk.errors import NotFoundError
from periflow_server.db import metric as db
from periflow_server.db.attempt import attempts_of
from periflow_server.db.base import Session
from periflow_server.db.metric import ChunkHead, MetricSeries
from periflow_server.services.journal import json_value
from periflow_server.services.points import (
    BLOCK,
    Kind,
    Points,
    downsample,
    mean_by_step,
    unpack,
    unpack_together,
)

_Writer = tuple[int, int]  # the number of an attempt, and of a process of a rank in it


@dataclass(frozen=True)
class _Part:
    """A chunk of a series; of its points, those of steps smaller than ``cut`` are shown."""

    head: ChunkHead
    cut: int | None


def names(session: Session, job_id: str, *, system: bool = False) -> list[m.MetricName]:
    """The metrics of a job, by name, with the ranks that gave them.

    Args:
        system: Include what the agents measured (rank -1 - n for node n).
    """
    found: dict[tuple[str, str], m.MetricName] = {}
    restarts = _Restarts(session, job_id)
    for series in db.series_of(session, job_id):
        if series.rank < 0 and not system:
            continue
        count = _count(session, series, restarts.of_rank(series.rank))
        known = found.get((series.name, series.kind))
        if known is not None:
            known.ranks.append(series.rank)
            known.count += count
            continue
        found[series.name, series.kind] = m.MetricName(
            name=series.name,
            kind="text" if series.kind == "text" else "number",
            ranks=[series.rank],
            count=count,
            last_step=series.last_step,
            last_value=series.last_value,
        )
    return list(found.values())


def series(
    session: Session,
    job_id: str,
    name: str,
    rank: int,
    *,
    max_points: int | None = None,
    last: int | None = None,
) -> Points:
    """One metric of one rank, per step from the newest attempt that reached it.

    Args:
        max_points: Downsample to at most about so many, keeping the extremes.
        last: Only the last so many points (before downsampling).

    Raises:
        NotFoundError: the job has no such metric (``metric_not_found``).
    """
    rows = db.series_named(session, job_id, rank, name)
    if not rows:
        raise NotFoundError(
            f"This job has no metric {name!r} of rank {rank}.",
            code="metric_not_found",
            hint="Run `pf job metrics list`.",
        )
    row = rows[0]
    restarts = _Restarts(session, job_id).of_rank(rank)
    parts = _visible(db.chunk_heads(session, row.id, extremes=max_points is not None), restarts)
    if last is not None:
        parts = _last_parts(parts, last)
    total = sum(part.head.size for part in parts)
    if max_points and last is None and row.kind == "number" and total >= BLOCK * max_points:
        points = _overview(session, row, parts)
    else:
        points = _whole(session, row, parts)
    if last is not None:
        points = points.slice(max(0, len(points) - last), len(points))
    return points if max_points is None else downsample(points, max_points)


def mean(
    session: Session,
    job_id: str,
    name: str,
    *,
    max_points: int | None = None,
    last: int | None = None,
) -> Points:
    """One metric as the mean of what the ranks gave at each step, in the order of the steps.

    Args:
        max_points: Downsample to at most about so many, keeping the extremes.
        last: Only the last so many steps (before downsampling).

    Raises:
        NotFoundError: no rank has given numbers of this name (``metric_not_found``).
    """
    rows = db.series_of(session, job_id)
    ranks = [r.rank for r in rows if (r.name, r.kind) == (name, "number") and r.rank >= 0]
    if not ranks:
        raise NotFoundError(
            f"This job has no numbers {name!r} to take the mean of.",
            code="metric_not_found",
            hint="Run `pf job metrics list`.",
        )
    points = mean_by_step([series(session, job_id, name, rank) for rank in ranks])
    if last is not None:
        points = points.slice(max(0, len(points) - last), len(points))
    return points if max_points is None else downsample(points, max_points)


def value_at(session: Session, job_id: str, name: str, *, attempt: int, step: int) -> float | None:
    """What an attempt reported of a metric at a step: the mean of the last words of its ranks.

    Returns:
        None if no rank has reported a number of this name there.
    """
    last: dict[int, float] = {}
    around = db.numbers_around(session, job_id, name, attempt=attempt, step=step)
    for rank, steps, values in around:
        points = unpack("number", steps, b"", values)
        assert isinstance(points.values, array)
        for each, value in zip(points.steps, points.values, strict=True):
            if each == step:
                last[rank] = value
    return sum(last.values()) / len(last) if last else None


def _count(session: Session, row: MetricSeries, restarts: dict[_Writer, int]) -> int:
    """How many points of a series are shown."""
    parts = _visible(db.chunk_heads(session, row.id), restarts)
    uncut = sum(part.head.size for part in parts if part.cut is None)
    return uncut + len(_whole(session, row, [part for part in parts if part.cut is not None]))


def _visible(heads: list[ChunkHead], restarts: dict[_Writer, int]) -> list[_Part]:
    """The chunks that are shown: from where a later process begins, what came before it is not.

    Args:
        heads: The chunks, by attempt and then as they came.
        restarts: From which step on a process, or an attempt, does again what came before it.
    """
    shown: list[_Part] = []
    cut: int | None = None
    for writer in sorted({_writer(head) for head in heads} | restarts.keys(), reverse=True):
        own = [head for head in heads if _writer(head) == writer]
        shown[:0] = _before(own, cut)
        begins = [head.min_step for head in own]
        begins += [step for step in (restarts.get(writer), cut) if step is not None]
        cut = min(begins, default=None)
    return shown


class _Restarts:
    """Where attempts, and the processes that launchers start again within them, begin anew."""

    def __init__(self, session: Session, job_id: str) -> None:
        attempts = attempts_of(session, job_id)
        self._attempts = {
            (one.number, 0): one.first_step for one in attempts if one.first_step is not None
        }
        self._restarts = db.restarts_of(session, job_id)

    def of_rank(self, rank: int) -> dict[_Writer, int]:
        """From which step on each of them does again what came before; see _visible()."""
        found = dict(self._attempts)
        processes: Counter[int] = Counter()
        for restart in self._restarts:
            if restart.rank == rank:
                processes[restart.attempt] += 1
                found[restart.attempt, processes[restart.attempt]] = restart.first_step + 1
        return found


def _writer(head: ChunkHead) -> _Writer:
    return head.attempt, head.process


def _before(heads: Iterable[ChunkHead], cut: int | None) -> Iterator[_Part]:
    for head in heads:
        if cut is None or head.max_step < cut:
            yield _Part(head, None)
        elif head.min_step < cut:
            yield _Part(head, cut)


def _last_parts(parts: list[_Part], last: int) -> list[_Part]:
    """The end of the list that surely holds so many points."""
    held = 0
    for index in range(len(parts) - 1, -1, -1):
        if parts[index].cut is None:
            held += parts[index].head.size
        if held >= last:
            return parts[index:]
    return parts


def _whole(session: Session, row: MetricSeries, parts: list[_Part]) -> Points:
    """All points of these chunks."""
    kind: Kind = "text" if row.kind == "text" else "number"
    points = Points.empty(kind)
    columns = _columns(session, row, parts)
    for part in parts:
        points.extend(_shown(kind, part, columns[part.head.id]))
    return points


def _overview(session: Session, row: MetricSeries, parts: list[_Part]) -> Points:
    """The extremes of each block where they are stored, all points elsewhere."""
    exact = [part for part in parts if part.cut is not None or not part.head.extremes]
    columns = _columns(session, row, exact)
    points = Points.empty("number")
    for part in parts:
        if part.head.extremes and part.cut is None:
            points.extend(unpack_together(part.head.extremes))
        else:
            points.extend(_shown("number", part, columns[part.head.id]))
    return points


def _columns(session: Session, row: MetricSeries, parts: list[_Part]) -> dict[int, db.Columns]:
    if not parts:
        return {}
    return db.chunk_columns(session, row.id, min(part.head.id for part in parts))


def _shown(kind: Kind, part: _Part, columns: db.Columns) -> Points:
    points = unpack(kind, *columns)
    return points if part.cut is None else points.before_step(part.cut)


def json_values(points: Points) -> list[float | str]:
    """The values as JSON has them: NaN and infinities are strings."""
    values: list[float | str] = list(points.values)
    total = sum(points.values) if isinstance(points.values, array) else 0.0
    if isfinite(total):
        return values
    return [json_value(value) for value in values]
