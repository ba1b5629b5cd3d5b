"""Points of a metric as columns: packed little-endian bytes when stored, arrays in memory."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isnan
from typing import Literal

import orjson

Kind = Literal["number", "text"]
BLOCK = 64
"""Points that share one pair of stored extremes."""


def _integers() -> array[int]:
    return array("q")


def _floats() -> array[float]:
    return array("d")


@dataclass
class Points:
    """Columns of one length: steps, times (unix seconds) and values (numbers or texts)."""

    steps: array[int] = field(default_factory=_integers)
    times: array[float] = field(default_factory=_floats)
    values: array[float] | list[str] = field(default_factory=_floats)

    @classmethod
    def empty(cls, kind: Kind) -> Points:
        return cls(values=[] if kind == "text" else array("d"))

    def __len__(self) -> int:
        return len(self.steps)

    def extend(self, other: Points) -> None:
        """Append the points of ``other``, which must be of the same kind."""
        self.steps.extend(other.steps)
        self.times.extend(other.times)
        self.values.extend(other.values)  # type: ignore[arg-type]

    def slice(self, start: int, stop: int) -> Points:
        return Points(self.steps[start:stop], self.times[start:stop], self.values[start:stop])

    def take(self, indices: Iterable[int]) -> Points:
        """The points at these indices, in their order."""
        chosen = list(indices)
        values = [self.values[i] for i in chosen]
        return Points(
            array("q", [self.steps[i] for i in chosen]),
            array("d", [self.times[i] for i in chosen]),
            array("d", values) if isinstance(self.values, array) else values,  # type: ignore[arg-type]
        )

    def before_step(self, step: int) -> Points:
        """The points of steps smaller than ``step``."""
        return self.take(i for i, s in enumerate(self.steps) if s < step)

    def extremes(self) -> Points:
        """The lowest and the highest point of every block, in order, and the last point."""
        return self.take(_with_last(_extreme_indices(self.values, BLOCK), len(self)))


def downsample(points: Points, max_points: int) -> Points:
    """At most about ``max_points`` points: the lowest and highest of each column of a chart.

    The last point is always kept. Texts are thinned out evenly.
    """
    count = len(points)
    if count <= max_points:
        return points
    if isinstance(points.values, list):
        stride = -(-count // max_points)
        indices = list(range(0, count, stride))
    else:
        width = -(-count // max(1, max_points // 2))
        indices = _extreme_indices(points.values, width)
    return points.take(_with_last(indices, count))


def mean_by_step(ranks: Iterable[Points]) -> Points:
    """The mean of all values of each step, with the time of the last of them."""
    found: dict[int, tuple[int, float, float]] = {}
    for points in ranks:
        assert isinstance(points.values, array)
        for step, time, value in zip(points.steps, points.times, points.values, strict=True):
            count, total, latest = found.get(step, (0, 0.0, 0.0))
            found[step] = (count + 1, total + value, max(latest, time))
    steps = sorted(found)
    return Points(
        array("q", steps),
        array("d", [found[step][2] for step in steps]),
        array("d", [found[step][1] / found[step][0] for step in steps]),
    )


def _with_last(indices: list[int], count: int) -> list[int]:
    return indices if not count or indices[-1] == count - 1 else [*indices, count - 1]


def _extreme_indices(values: array[float] | list[str], width: int) -> list[int]:
    assert isinstance(values, array)
    indices: list[int] = []
    for start in range(0, len(values), width):
        column = values[start : start + width]
        low, high = _lowest_and_highest(column)
        first, second = (low, high) if low < high else (high, low)
        indices.append(start + first)
        if second != first:
            indices.append(start + second)
    return indices


def _lowest_and_highest(column: array[float]) -> tuple[int, int]:
    total = sum(column)
    if total == total:
        return column.index(min(column)), column.index(max(column))
    # A NaN, or infinities of both signs: min() and max() cannot be trusted with the former.
    known = [i for i, value in enumerate(column) if not isnan(value)] or [0]
    return min(known, key=column.__getitem__), max(known, key=column.__getitem__)


def pack(column: array[int] | array[float] | list[str]) -> bytes:
    """A column as bytes, the same on every machine."""
    if isinstance(column, list):
        return orjson.dumps(column)
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def unpack(kind: Kind, steps: bytes, times: bytes, values: bytes) -> Points:
    """The points that :func:`pack` made bytes of."""
    if kind == "text":
        return Points(_unpacked("q", steps), _unpacked("d", times), orjson.loads(values))
    return Points(_unpacked("q", steps), _unpacked("d", times), _unpacked("d", values))


def pack_together(points: Points) -> bytes:
    """The three columns of numbers one after the other."""
    return pack(points.steps) + pack(points.times) + pack(points.values)


def unpack_together(data: bytes) -> Points:
    third = len(data) // 3
    return unpack("number", data[:third], data[third : 2 * third], data[2 * third :])


def _unpacked(typecode: Literal["q", "d"], data: bytes) -> array:  # type: ignore[type-arg]
    column = array(typecode)
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column
