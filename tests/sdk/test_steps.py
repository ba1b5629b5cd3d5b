"""Steps and how they count."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import periflow_sdk as pf
from periflow_sdk import _control as word
from periflow_sdk import _training
from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from conftest import Run


def test_steps_count_from_zero(run: Run) -> None:
    pf.init(total_train_steps=3)
    assert pf.current_step() == 0
    pf.start_step()
    assert pf.current_step() == 1
    pf.end_step()
    assert pf.current_step() == 1
    with pf.train_step():
        assert pf.current_step() == 2


def test_resumed_job_continues_at_the_next_step(job: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCESSED_ITERS", "100")
    pf.init(total_train_steps=200)
    assert pf.current_step() == 100
    with pf.train_step():
        pf.metric({"loss": 1.0})
    assert [r["s"] for r in job.records(kind="step")] == [101]
    assert job.metrics() == [(101, {"loss": 1.0})]
    assert job.word("progress", word.FIRST) == 100


def test_step_is_completed_with_its_values_in_one_call(
    job: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    pf.init()
    for values in (
        {"loss": 0.5, "phase": "warm-up"},
        {"loss": object(), "lr": 0.1},
        {3: 0.5, "lr": 0.2},
        {},
    ):
        pf.start_step()
        assert _training._run.complete_step(values) is False
    assert job.word("progress", word.FINISHED) == 4
    job.tell(word.STOP, 1)
    pf.start_step()
    assert _training._run.complete_step({"loss": float("nan"), "lr": 0.1}) is True
    assert job.word("progress", word.STOP_SEEN) == 1
    with pytest.raises(UsageError, match="without start_step"):
        _training._run.complete_step({})
    assert [r["s"] for r in job.records(kind="step")] == [1, 2, 3, 4, 5]
    assert all(0 <= r["d"] < 60 for r in job.records(kind="step"))
    assert job.metrics() == [
        (1, {"loss": 0.5, "phase": "warm-up"}),
        (2, {"lr": 0.1}),
        (3, {"lr": 0.2}),
        (5, {"loss": "NaN", "lr": 0.1}),
    ]
    told = capfd.readouterr().err
    assert told.count("'loss' is not recorded") == told.count("'3' is not recorded") == 1


def test_completed_steps_keep_their_times_and_their_place_among_other_records(job: Run) -> None:
    before = time.time()
    pf.init()
    for number in range(40):
        pf.start_step()
        _training._run.complete_step({"loss": float(number)})
    pf.metric({"accuracy": 1.0})
    with pf.train_step():
        pass
    pf.start_step()
    _training._run.complete_step({"loss": 40.0})
    pf.finish()
    records = [r for r in job.records() if r["t"] in ("step", "metric")]
    assert [r["s"] for r in records if r["t"] == "step"] == list(range(1, 43))
    assert [r["m"]["loss"] for r in records if "loss" in r.get("m", {})] == list(range(41))
    assert records[80] == {"t": "metric", "s": 40, "w": records[80]["w"], "m": {"accuracy": 1.0}}
    times = [r["w"] for r in records]
    assert times == sorted(times) and before - 0.01 < times[0] and times[-1] < time.time() + 0.01


def test_journal_tells_the_life_of_a_run(job: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("NODE_RANK", "1")
    pf.init(total_train_steps=7, config={"lr": 0.1})
    with pf.train_step():
        pass
    pf.finish()
    header, init, config, step, finish = job.records(rank=1)
    assert (header["t"], header["v"], header["rank"]) == ("header", 1, 1)
    assert (init["t"], init["total"], init["world_size"], init["node_rank"]) == ("init", 7, 2, 1)
    assert (init["sdk"], config["config"]) == (pf.__version__, {"lr": 0.1})
    assert step["t"] == "step" and 0 <= step["d"] < 60
    assert (finish["t"], finish["s"]) == ("finish", 1)


def test_progress_is_seen_by_another_process_at_once(job: Run) -> None:
    pf.init(total_train_steps=9)
    pf.start_step()
    assert job.word("progress", 0) == word.MAGIC
    assert (job.word("progress", word.STARTED), job.word("progress", word.FINISHED)) == (1, 0)
    assert job.word("progress", word.TOTAL) == 9
    pf.end_step()
    assert job.word("progress", word.FINISHED) == 1
    assert job.word("progress", word.STATE) == word.RUNNING
    pf.finish()
    assert job.word("progress", word.STATE) == word.DONE


def test_exception_in_a_step_passes_through_and_leaves_the_step_unfinished(run: Run) -> None:
    pf.init()
    with pf.train_step():
        pass
    with pytest.raises(KeyError, match="batch"), pf.train_step():
        raise KeyError("batch")
    assert pf.current_step() == 1
    with pf.train_step():
        assert pf.current_step() == 2
    if run.mode == "job":
        assert [r["s"] for r in run.records(kind="step")] == [1, 2]


def test_second_init_closes_the_first_run(run: Run) -> None:
    pf.init(total_train_steps=5, local_log_name=run.log_name)
    pf.start_step()
    pf.metric({"loss": 1.0})
    pf.init(total_train_steps=6, local_log_name=run.log_name)
    assert pf.current_step() == 0
    pf.start_step()
    pf.metric({"loss": 2.0})
    assert run.metrics() == [(1, {"loss": 1.0}), (1, {"loss": 2.0})]
    if run.mode == "job":
        assert len(run.segments()) == 2
        assert [r["t"] for r in run.records()].count("finish") == 1
        assert run.word("progress", word.TOTAL) == 6


def test_finish_twice_is_fine(run: Run) -> None:
    pf.init()
    pf.finish()
    pf.finish()


def test_finish_can_say_that_it_is_early(run: Run) -> None:
    pf.init(total_train_steps=9)
    with pf.train_step():
        pass
    pf.finish(early=True)
    pf.finish()
    if run.mode == "job":
        assert run.word("progress", word.STATE) == word.DONE
        assert run.word("progress", word.EARLY) == 1
    pf.init(total_train_steps=9)
    pf.finish()
    if run.mode == "job":
        assert run.word("progress", word.EARLY) == 0


def test_normal_exit_finishes_the_run(job: Run) -> None:
    job.script("import periflow_sdk as pf; pf.init()")
    assert job.records()[-1]["t"] == "finish"
    assert job.word("progress", word.STATE) == word.DONE


def test_exit_by_an_exception_does_not_finish_the_run(job: Run) -> None:
    done = job.script("import periflow_sdk as pf; pf.init(); 1 / 0", check=False)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    assert job.records()[-1]["t"] == "init"
    assert job.word("progress", word.STATE) == word.RUNNING


@pytest.mark.parametrize("total", [None, -1, 0, float("inf")])
def test_unknown_total_is_accepted_as_frameworks_say_it(job: Run, total: float | None) -> None:
    pf.init(total_train_steps=total)
    assert pf.status().total_steps is None
    assert job.word("progress", word.TOTAL) == 0


def test_config_keeps_what_json_does_not_have_as_text(job: Run) -> None:
    import argparse
    import pathlib

    args = argparse.Namespace(lr=0.1, out=pathlib.Path("/x"), limit=float("inf"), sizes=(1, 2))
    pf.init(config=args)
    config = job.records(kind="config")[0]["config"]
    assert config == {"lr": 0.1, "out": "/x", "limit": "inf", "sizes": [1, 2]}


def test_status_tells_mode_and_step(run: Run) -> None:
    pf.init(total_train_steps=4)
    with pf.train_step():
        pass
    status = pf.status()
    assert (status.mode, status.rank, status.step, status.total_steps) == (run.mode, 0, 1, 4)
    assert (status.lost_records, status.error) == (0, None)


def test_job_that_had_reached_its_total_says_so(job: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCESSED_ITERS", "100")
    pf.init(total_train_steps=100)
    assert pf.status().is_complete and pf.should_stop()
    assert list(range(pf.current_step(), 100)) == []
    assert job.word("progress", word.STOP_SEEN) == 0, "it was not preempted"


def test_run_is_complete_after_its_last_step(run: Run) -> None:
    pf.init(total_train_steps=2)
    for done in (False, True):
        with pf.train_step():
            pass
        assert pf.status().is_complete == done and not pf.should_stop()
