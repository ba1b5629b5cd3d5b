"""Columns of points: what goes in comes out, and charts keep their extremes."""

from __future__ import annotations

from array import array
from math import isnan

from hypothesis import given
from hypothesis import strategies as st

from periflow_server.services.points import Points, downsample, pack, unpack
from periflow_server.services.record import read

numbers = st.lists(st.floats(width=64), min_size=1, max_size=400)


def points_of(values: list[float]) -> Points:
    count = len(values)
    return Points(array("q", range(count)), array("d", range(count)), array("d", values))


@given(numbers)
def test_columns_survive_packing_bit_for_bit(values: list[float]) -> None:
    points = points_of(values)
    again = unpack("number", pack(points.steps), pack(points.times), pack(points.values))
    assert again.steps == points.steps
    assert pack(again.values) == pack(points.values)


@given(numbers, st.integers(min_value=2, max_value=50))
def test_chart_has_the_extremes_and_the_last_point_and_few_others(
    values: list[float], max_points: int
) -> None:
    chart = downsample(points_of(values), max_points)
    assert len(chart) <= max_points + 3
    assert list(chart.steps) == sorted(set(chart.steps))
    assert chart.steps[-1] == len(values) - 1
    known = [value for value in values if not isnan(value)]
    if known:
        shown = [value for value in chart.values if not isnan(value)]  # type: ignore[arg-type]
        assert (min(shown), max(shown)) == (min(known), max(known))


@given(st.lists(st.binary(max_size=60)))
def test_no_bytes_break_the_reader(lines: list[bytes]) -> None:
    good = b'{"t":"metric","s":1,"w":2.5,"m":{"loss":1}}'
    clean = [line.replace(b"\n", b"") for line in lines]
    batch = read(b"".join(line + b"\n" for line in [good, *clean, good]))
    assert list(batch.series["loss", "number"].values)[:1] == [1.0]
    assert batch.series["loss", "number"].steps[-1] == 1
