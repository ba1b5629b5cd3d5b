"""What a batch of journal lines says, as columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from periflow_server.services.points import Kind, Points

_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_LARGEST_STEP = 2**62
_LONGEST_NAME = 256
_LONGEST_TEXT = 4096


@dataclass
class Batch:
    """The content of some journal lines.

    ``unreadable`` counts lines that are no record (torn, or not what a record looks like);
    ``first_step`` and ``last_step`` are the smallest and largest finished step; ``goes_on_at``
    is set where a process was started again: the step that was done already.
    """

    series: dict[tuple[str, Kind], Points] = field(default_factory=dict)
    unreadable: int = 0
    first_step: int | None = None
    last_step: int | None = None
    total_steps: int | None = None
    goes_on_at: int | None = None
    config: dict[str, Any] | None = None


def read(lines: bytes) -> Batch:
    """Read whole journal lines.

    Args:
        lines: Bytes that end with a newline.
    """
    batch = Batch()
    for record in _records(lines, batch):
        try:
            _add(batch, record)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            batch.unreadable += 1
    return batch


def _records(lines: bytes, batch: Batch) -> list[Any]:
    """All records by one call of the parser; line by line only where that does not work out."""
    pieces = [piece for piece in lines.split(b"\n") if piece.strip()]
    try:
        records = orjson.loads(b"[" + b",".join(pieces) + b"]")
        if len(records) == len(pieces):
            return records  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:
        pass
    records = []
    for piece in pieces:
        try:
            records.append(orjson.loads(piece))
        except orjson.JSONDecodeError:
            batch.unreadable += 1
    return records


def _add(batch: Batch, record: dict[str, Any]) -> None:
    kind = record["t"]
    if kind == "step":
        step = _step(record["s"])
        if batch.last_step is None or step > batch.last_step:
            batch.last_step = step
        if batch.first_step is None or step < batch.first_step:
            batch.first_step = step
    elif kind == "metric":
        _add_metrics(batch.series, _step(record["s"]), _time(record["w"]), record["m"])
    elif kind == "init":
        total = record.get("total")
        if total is not None:
            batch.total_steps = _step(total)
        if record.get("restart") is True:
            batch.goes_on_at = _step(record["s"])
    elif kind == "config":
        config = record["config"]
        if not isinstance(config, dict):
            raise TypeError("config is no object")
        # Raises for what is nested too deeply to be shown again, as a part of a job.
        orjson.dumps([[[[config]]]])
        batch.config = {**(batch.config or {}), **config}


def _step(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST_STEP:
        raise ValueError("no step")
    return value


def _time(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError("no time")
    return float(value)


def _add_metrics(
    series: dict[tuple[str, Kind], Points], step: int, time: float, values: dict[str, Any]
) -> None:
    for name, value in values.items():
        kind: Kind = "number"
        if type(value) is str:
            if value in _NOT_FINITE:
                value = _NOT_FINITE[value]
            else:
                kind, value = "text", value[:_LONGEST_TEXT]
        elif value is None or isinstance(value, (list, dict)):
            raise TypeError("no metric value")
        points = series.get((name, kind))
        if points is None:
            if not name or len(name) > _LONGEST_NAME or "\0" in name:
                raise ValueError("no metric name")
            points = series[name, kind] = Points.empty(kind)
        points.values.append(value)  # array("d") takes integers and booleans as they are
        points.steps.append(step)
        points.times.append(time)
