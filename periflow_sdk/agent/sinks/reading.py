"""The journal as a sink reads it: batches of records from its own offsets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from periflow_sdk.agent.journal import Segment, segments, system_segments

BATCH_BYTES = 512 * 1024


@dataclass(frozen=True)
class Record:
    """One record of a rank (of an agent: -1 - node). ``end`` is where the next one begins."""

    rank: int
    segment: str
    pid: int
    end: int
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        """What it is: "metric", "init", …"""
        return str(self.body.get("t"))

    @property
    def step(self) -> int:
        """The step it belongs to."""
        step = self.body.get("s")
        return step if isinstance(step, int) and 0 <= step < 2**62 else 0

    @property
    def time(self) -> float:
        """When it was made, in unix seconds."""
        time = self.body.get("w")
        return float(time) if isinstance(time, int | float) and 0 <= time < 2**40 else 0.0

    def values(self) -> dict[str, float | str]:
        """The values of a metric record; those that JSON does not have as floats again."""
        given = self.body.get("m")
        if not isinstance(given, dict):
            return {}
        return {
            _text(name): _value(value)
            for name, value in given.items()
            if isinstance(value, int | float | str)
        }


def read_batches(run_dir: Path, offsets: dict[str, int]) -> Iterator[list[Record]]:
    """What is new of each segment, at most some hundred KiB of each.

    What agents measured comes first: it tells of the past of the ranks' records that follow.
    """
    for segment in [*system_segments(run_dir), *segments(run_dir)]:
        offset = offsets.get(segment.key, 0)
        if lines := segment.read_lines(offset, BATCH_BYTES):
            yield list(_records(segment, offset, lines))


def _records(segment: Segment, offset: int, lines: bytes) -> Iterator[Record]:
    for line in lines.splitlines(keepends=True):
        offset += len(line)
        body: Any = None
        try:
            body = json.loads(line)
        except (ValueError, RecursionError):
            pass  # the control plane counts what does not parse
        found = body if isinstance(body, dict) else {}
        yield Record(segment.rank, segment.key, segment.pid, offset, found)


_NOT_JSON = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def _value(value: float | str) -> float | str:
    if isinstance(value, str):
        return _NOT_JSON.get(value, _text(value))
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _text(text: str) -> str:
    """The same without halves of characters, which JSON can name and no service can store."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
