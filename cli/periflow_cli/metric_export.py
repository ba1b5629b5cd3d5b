"""Every value of metrics, in the formats of other programs."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from periflow_cli.wholefile import whole_file
from periflow_sdk.api.models import Job, MetricSeries
from periflow_sdk.errors import UsageError

_COLUMNS = ("name", "rank", "step", "time", "value")


def write_rows(series: Iterable[MetricSeries], form: str, path: Path | None) -> int:
    """Write a row for each value, with its rank (empty for a mean), step and time.

    Args:
        form: "csv", "jsonl" (an object a line) or "json" (one document).
        path: Appears when it is whole; None prints.

    Returns:
        How many values there were.

    Raises:
        UsageError: the folder of ``path`` is not there.
    """
    if path is None:
        return _write(series, form, sys.stdout)
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.")
    with whole_file(path) as file:
        return _write(series, form, file)


def _write(series: Iterable[MetricSeries], form: str, file: IO[str]) -> int:
    count = 0
    if form == "json":
        rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _rows(series)]
        file.write(json.dumps(rows, ensure_ascii=False, indent=2) + "\n")
        return len(rows)
    table = csv.writer(file, lineterminator="\n")
    if form == "csv":
        table.writerow(_COLUMNS)
    for count, row in enumerate(_rows(series), 1):  # noqa: B007
        if form == "csv":
            table.writerow(row)
        else:
            document = dict(zip(_COLUMNS, row, strict=True))
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
    return count


def _rows(series: Iterable[MetricSeries]) -> Iterator[tuple[Any, ...]]:
    from datetime import UTC, datetime

    for each in series:
        for step, time, value in zip(each.steps, each.times, each.values, strict=True):
            moment = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
            yield each.name, each.rank, step, moment.replace("+00:00", "Z"), value


def write_event_files(folder: Path, job: Job, series: Iterable[MetricSeries]) -> tuple[Path, int]:
    """Write a run for TensorBoard: rank 0 in the job's folder, other ranks and machines below it.

    The same job written again takes the place of what was there.

    Returns:
        The job's folder, and how many values there were.
    """
    from periflow_sdk.agent.sinks.eventfile import EventFile

    name = re.sub(r"[^A-Za-z0-9._-]+", "-", job.name).strip("-.") or "job"
    place = folder / f"{job.number}-{name}"
    files: dict[Path, EventFile] = {}
    count = 0
    for each in series:
        where = place / _run(each.rank)
        if where not in files:
            files[where] = EventFile(where / f"events-{job.id}.part")
            files[where].begin(job.created_at.timestamp())
        for step, time, value in zip(each.steps, each.times, each.values, strict=True):
            files[where].add(each.name, _number(value), step=step, time=time)
            count += 1
    for where, file in files.items():
        file.close()
        begun = int(job.created_at.timestamp())
        file.path.replace(where / f"events.out.tfevents.{begun}.periflow-{job.id}")
    return place, count


def _run(rank: int | None) -> str:
    if not rank or rank == -1:
        return ""
    return f"rank-{rank}" if rank > 0 else f"node-{-1 - rank}"


def _number(value: float | str) -> float | str:
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value
