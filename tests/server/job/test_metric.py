"""Journals in, series out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError


def metric(step: int, **values: Any) -> dict[str, Any]:
    return {"t": "metric", "s": step, "w": 1e9 + step, "m": values}


def test_points_come_back_as_they_were_given(desk: Any) -> None:
    job, agent = desk.running()
    agent.journal(
        {"t": "header", "v": 1, "rank": 0, "pid": 1, "w": 1e9},
        {"t": "init", "s": 0, "w": 1e9, "total": 100, "world_size": 1, "node_rank": 0},
        {"t": "config", "s": 0, "w": 1e9, "config": {"lr": 0.1}},
        metric(1, loss=0.5, flag=True, note="warm-up", count=3),
        {"t": "step", "s": 1, "w": 1e9 + 1, "d": 0.01},
        metric(2, loss="NaN"),
        metric(3, loss="-Infinity"),
        {"t": "step", "s": 3, "w": 1e9 + 3, "d": 0.01},
    )
    loss = desk.series(job.number)
    assert (loss.steps, loss.times) == ([1, 2, 3], [1e9 + 1, 1e9 + 2, 1e9 + 3])
    assert loss.values == [0.5, "NaN", "-Infinity"]
    assert desk.series(job.number, "flag").values == [1.0]
    assert desk.series(job.number, "note").values == ["warm-up"]
    detail = desk.job(job.number)
    assert (detail.step, detail.total_steps, detail.config) == (3, 100, {"lr": 0.1})
    named = {one.name: one for one in desk.api.metric_names(desk.project, job.number)}
    assert sorted(named) == ["count", "flag", "loss", "note"]
    assert (named["loss"].count, named["loss"].last_value) == (3, "-Infinity")
    assert (named["note"].kind, named["note"].last_value) == ("text", "warm-up")


def test_batch_that_was_stored_already_is_refused_with_the_offset_wanted(desk: Any) -> None:
    job, agent = desk.running()
    end = agent.metrics(range(1, 11))
    for offset in (0, end - 1, end + 1):
        with pytest.raises(ConflictError) as refused:
            agent.api.ship_journal(0, "1-1", offset, b'{"t":"step","s":1,"w":1}\n')
        assert (refused.value.code, refused.value.data["offset"]) == ("offset_mismatch", end)
    assert desk.series(job.number).steps == list(range(1, 11))
    assert agent.metrics(range(1, 4), rank=1) > 0  # another rank counts on its own
    assert agent.metrics(range(11, 13), segment="2-2") > 0
    assert desk.series(job.number).steps == list(range(1, 13))


def test_line_that_is_not_whole_yet_is_left_for_the_next_batch(desk: Any) -> None:
    job, agent = desk.running()
    line = b'{"t":"metric","s":1,"w":1,"m":{"loss":1.5}}\n'
    assert agent.api.ship_journal(0, "1-1", 0, line + line[:20]) == len(line)
    assert agent.api.ship_journal(0, "1-1", len(line), line[:20]) == len(line)
    assert agent.api.ship_journal(0, "1-1", len(line), line) == 2 * len(line)
    assert desk.series(job.number).values == [1.5, 1.5]


def test_torn_lines_are_set_aside_and_told_once(desk: Any) -> None:
    job, agent = desk.running()
    for first in (1, 11):
        agent.journal(
            metric(first, loss=1.0),
            b'{"t":"metric","s":2,"w":1e9,"m":{"lo\n',
            b"\xff\xfe\n",
            b"[1,2]\n",
            b'{"t":"metric","s":"x","w":1,"m":{}}\n',
            b'{"t":"config","config":{"deep":' + b"[" * 252 + b"]" * 252 + b"}}\n",
            metric(first + 1, loss=2.0),
        )
    assert desk.series(job.number).values == [1.0, 2.0, 1.0, 2.0]
    warnings = [e.message for e in desk.job(job.number).events if e.kind == "warning"]
    assert warnings == ["5 journal lines could not be read and were set aside."]


@pytest.mark.parametrize("segment", ["../x", "a/b", "", "x" * 65])
def test_segment_name_that_is_none_is_refused(desk: Any, segment: str) -> None:
    _, agent = desk.running()
    with pytest.raises(InvalidRequestError):
        agent.api.ship_journal(0, segment, 0, b"\n")


def test_newer_attempt_hides_what_it_reached_again(desk: Any) -> None:
    job, agent = desk.running(restart={"backoff_seconds": 0})
    agent.metrics(range(1, 31), lambda step: 1.0)
    agent.journal(metric(20, val=1.0), metric(30, val=1.0))
    agent.checkpoint(20, desk.snapshot())
    agent.finish("lost", None)
    second = desk.agent(job, attempt=2)
    second.metrics(range(21, 26), lambda step: 2.0)
    loss = desk.series(job.number)
    assert loss.steps == list(range(1, 26))
    assert loss.values == [1.0] * 20 + [2.0] * 5
    assert desk.series(job.number, "val").steps == [20]
    counts = {one.name: one.count for one in desk.api.metric_names(desk.project, job.number)}
    assert counts == {"loss": 25, "val": 1}


def begin(step: int, *, again: bool = True) -> dict[str, Any]:
    more = {"restart": True} if again else {}
    return {"t": "init", "s": step, "w": 1e9, "total": 100, **more}


def test_process_that_a_launcher_starts_again_hides_what_it_repeats(desk: Any) -> None:
    job, agent = desk.running()
    for rank in (0, 1):
        agent.journal(begin(0, again=False), rank=rank, segment="1-10")
        agent.metrics(range(1, 31), lambda step: 1.0, rank=rank, segment="1-10")
    agent.journal(metric(30, val=1.0), segment="1-10")
    agent.journal(begin(20), segment="2-20")
    assert desk.series(job.number).steps == list(range(1, 21))
    agent.metrics(range(21, 26), lambda step: 2.0, segment="2-20")
    agent.journal(metric(25, loss=3.0), segment="3-20")  # a segment of the same process
    loss = desk.series(job.number)
    assert loss.steps == [*range(1, 26), 25]
    assert loss.values == [1.0] * 20 + [2.0] * 5 + [3.0]
    assert desk.series(job.number, "val").steps == []
    assert desk.series(job.number, rank=1).steps == list(range(1, 31))
    counts = {one.name: one.count for one in desk.api.metric_names(desk.project, job.number)}
    assert counts["loss"] == 26 + 30


def test_step_that_is_repeated_alone_is_shown_once(desk: Any) -> None:
    job, agent = desk.running()
    for segment, value in (("1-10", 1.0), ("2-20", 2.0), ("3-30", 3.0)):
        first = begin(4, again=value > 1)
        agent.journal(first, metric(5, loss=value), metric(5, loss=value), segment=segment)
    assert desk.series(job.number).values == [3.0, 3.0]
    assert desk.series(job.number, last=1).values == [3.0]


def test_late_end_of_a_dead_process_hides_nothing_of_the_one_after_it(desk: Any) -> None:
    job, agent = desk.running()
    agent.journal(begin(0, again=False), metric(1, loss=1.0), segment="1-10")
    agent.journal(begin(1), metric(2, loss=2.0), metric(3, loss=2.0), segment="2-20")
    agent.journal(metric(2, loss=1.0), metric(3, loss=1.0), metric(4, loss=1.0), segment="1-10")
    assert desk.series(job.number).steps == [1, 2, 3]
    assert desk.series(job.number).values == [1.0, 2.0, 2.0]


def test_scripts_that_follow_one_another_hide_nothing_of_each_other(desk: Any) -> None:
    job, agent = desk.running()
    for segment, value in (("1-10", 1.0), ("2-20", 2.0)):
        agent.journal(begin(0, again=False), metric(1, loss=value), segment=segment)
    assert desk.series(job.number).values == [1.0, 2.0]


def test_newer_attempt_hides_what_every_process_of_the_one_before_reached(desk: Any) -> None:
    job, agent = desk.running(restart={"backoff_seconds": 0})
    agent.journal(begin(0, again=False), segment="1-10")
    agent.metrics(range(1, 31), lambda step: 1.0, segment="1-10")
    agent.journal(begin(20), segment="2-20")
    agent.metrics(range(21, 41), lambda step: 2.0, segment="2-20")
    agent.finish("lost", None)
    second = desk.agent(job, attempt=2)
    second.journal(begin(25, again=False), segment="3-30")
    second.metrics(range(26, 29), lambda step: 3.0, segment="3-30")
    loss = desk.series(job.number)
    assert loss.steps == list(range(1, 29))
    assert loss.values == [1.0] * 20 + [2.0] * 5 + [3.0] * 3


def test_long_series_keeps_its_extremes_when_downsampled(desk: Any) -> None:
    job, agent = desk.running()
    count = 120_000
    spikes = {777: 1e6, 83_456: -1e6, 119_998: 5e5, 50_000: "NaN"}
    for start in range(1, count, 20_000):
        steps = range(start, start + 20_000)
        agent.metrics(steps, lambda step: spikes.get(step, math.sin(step / 1000)))
    for max_points in (100, 1000, 5000):
        chart = desk.series(job.number, max_points=max_points)
        assert len(chart.steps) <= max_points + 3
        assert chart.steps == sorted(set(chart.steps))
        assert chart.steps[-1] == count
        found = dict(zip(chart.steps, chart.values, strict=True))
        assert [found.get(step) for step in (777, 83_456, 119_998)] == [1e6, -1e6, 5e5]
    whole = desk.series(job.number)
    assert whole.steps == list(range(1, count + 1))
    assert whole.values[49_999] == "NaN"
    assert desk.series(job.number, last=10).steps == list(range(count - 9, count + 1))


def test_many_small_batches_read_like_one(desk: Any) -> None:
    job, agent = desk.running()
    for step in range(1, 1300, 7):
        agent.metrics(range(step, step + 7))
    last = 7 * len(range(1, 1300, 7))
    assert desk.series(job.number).values == [float(step) for step in range(1, last + 1)]
    assert desk.series(job.number, last=3).steps == [last - 2, last - 1, last]


def test_unknown_metric_is_not_found(desk: Any) -> None:
    job, _ = desk.running()
    assert desk.api.metric_names(desk.project, job.number) == []
    with pytest.raises(NotFoundError) as missing:
        desk.series(job.number, "accuracy")
    assert missing.value.code == "metric_not_found"


def test_mean_of_the_ranks_is_taken_at_each_step(desk: Any) -> None:
    job, agent = desk.running()
    agent.journal(metric(1, loss=1.0), metric(2, loss=2.0), metric(4, loss="NaN"))
    agent.journal(metric(1, loss=3.0), metric(3, loss=5.0), metric(4, loss=1.0), rank=1)
    agent.journal(metric(1, loss=100.0), rank=-1)  # measured by the machine
    mean = desk.series(job.number, rank=None)
    assert (mean.rank, mean.steps) == (None, [1, 2, 3, 4])
    assert mean.values == [2.0, 2.0, 5.0, "NaN"]
    assert desk.series(job.number, rank=None, last=2).steps == [3, 4]
    assert desk.series(job.number, rank=1).values == [3.0, 5.0, 1.0]
    with pytest.raises(NotFoundError, match="mean"):
        desk.series(job.number, "note", rank=None)
