"""What sinks are made of, without processes."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
from event_files import read_events, texts

from periflow_sdk.agent.sinks.backlog import Backlog
from periflow_sdk.agent.sinks.eventfile import EventFile
from periflow_sdk.agent.sinks.placing import Past, Rows
from periflow_sdk.agent.sinks.reading import Record, read_batches
from periflow_sdk.agent.sinks.sink import Ending, SinkRefusedError
from periflow_sdk.agent.sinks.tensorboard import TensorboardSink
from periflow_sdk.agent.sinks.wandb import WandbAccess, WandbSink


def record(kind: str, step: int, pid: int = 1, **body: Any) -> Record:
    return Record(0, "0/a", pid, 0, {"t": kind, "s": step, "w": 1700000000.0 + step, **body})


def test_rows_have_the_number_of_their_step_wherever_they_can() -> None:
    rows = Rows()
    placed = [
        rows.place(*each)
        for each in [
            (1, ["loss"]),
            (1, ["accuracy"]),  # joins its step
            (5, ["loss"]),
            (4, ["late"]),  # cannot go back
            (6, ["loss"]),  # the row of the late one has its number
            (9, ["loss"]),
            (9, ["loss"]),  # a second value
        ]
    ]
    assert placed == [1, 1, 5, 6, 7, 9, 10]


def test_only_what_restarted_ranks_repeat_is_left_out() -> None:
    past = Past(reached=3)
    first = [past.is_repeated(record("metric", step)) for step in (2, 3, 4, 5)]
    assert first == [True, True, False, False]
    past.is_repeated(record("init", 3, pid=2, restart=True))
    again = [past.is_repeated(record("metric", step, pid=2)) for step in (4, 5, 6)]
    assert again == [True, True, False]
    next_script = [past.is_repeated(record("metric", step, pid=3)) for step in (1, 2)]
    assert next_script == [False, False]


def test_tensorboard_reads_numbers_texts_and_restarts(tmp_path: Path) -> None:
    sink = TensorboardSink(tmp_path)
    sink.open([])
    sink.take([record("init", 0)])
    sink.take([record("metric", step, m={"loss": step / 2, "note": f"n{step}"}) for step in (1, 2)])
    sink.take([record("metric", 3, m={"loss": "NaN", "big": 1e300})])
    sink.take([record("init", 1, restart=True), record("metric", 2, m={"loss": 9.0})])
    sink.close(Ending())
    events = read_events(tmp_path)
    points = events.Scalars("loss")
    assert [(point.step, point.value) for point in points] == [(1, 0.5), (2, 9.0)]
    assert points[0].wall_time == 1700000001.0
    assert texts(events, "note")[0] == (1, "n1")


def test_event_file_is_cut_to_what_counts_before_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    file = EventFile(path)
    file.begin(1.0)
    file.add("x", 1.0, step=1, time=1.0)
    size = file.flush()
    file.add("x", -math.inf, step=2, time=2.0)
    file.close()
    assert path.stat().st_size > size
    file = EventFile(path, size)
    file.add("x", 2.5, step=2, time=2.0)
    file.close()
    assert [point.value for point in read_events(tmp_path).Scalars("x")] == [1.0, 2.5]


def test_sink_that_is_far_behind_gives_up_only_what_all_others_have_read(tmp_path: Path) -> None:
    folder = tmp_path / "rank-0"
    folder.mkdir()
    line = json.dumps({"t": "metric", "s": 1, "m": {"x": 1}}).encode() + b"\n"
    keys = [f"{n:020d}-7" for n in range(3)]
    for key in keys:
        (folder / f"{key}.jsonl").write_bytes(line * 10)
    size = len(line) * 10
    everything = {f"0/{key}": size for key in keys}
    backlog = Backlog(limit=size)
    reached = backlog.reached(tmp_path, {f"0/{keys[0]}": len(line) * 4}, [everything])
    assert [reached.get(f"0/{key}") for key in keys] == [size, size, None]
    assert backlog.lost == 6 + 10
    backlog.reached(tmp_path, {}, [everything])
    assert backlog.lost == 16, "counted once"
    lagging = Backlog(limit=size)
    lagging.reached(tmp_path, {}, [everything, {}])
    assert lagging.lost == 0


def test_records_that_do_not_parse_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "rank-0"
    folder.mkdir()
    lines = [
        b"[1]",
        b"\xff{",
        b'{"t":"metric","s":"x","m":[1]}',
        b'{"t":"metric","s":2,"m":{"x":1e999},"w":1e999}',
        rb'{"t":"metric","s":3,"m":{"\ud800":"\udfff"}}',
    ]
    (folder / f"{1:020d}-7.jsonl").write_bytes(b"\n".join(lines) + b"\n" + b'{"torn')
    (batch,) = read_batches(tmp_path, {})
    assert [each.values() for each in batch] == [{}, {}, {}, {"x": math.inf}, {"?": "?"}]
    sink = TensorboardSink(tmp_path / "events")
    sink.take(batch)
    sink.close(Ending(0))
    assert batch[-1].end == sum(len(line) + 1 for line in lines)
    assert not list(read_batches(tmp_path, {batch[-1].segment: batch[-1].end}))


def test_missing_wandb_is_refused_with_what_to_type(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    access = WandbAccess(None, None, "offline")
    with pytest.raises(SinkRefusedError, match=r"pip install 'periflow_sdk\[wandb\]'"):
        WandbSink(tmp_path, None, access, {}).open([])  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
