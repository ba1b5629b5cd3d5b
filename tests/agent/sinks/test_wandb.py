"""W&B runs of real jobs: nothing twice, nothing lost, and no harm from a W&B in trouble."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from event_files import read_events
from wandb_files import WandbRun, read_run

from periflow_sdk.agent.sinks.wandb import STEP

pytest.importorskip("wandb")
KEY = "0123456789abcdef" * 2 + "SECRETKEY"
TRAINING = """
import os, time
from pathlib import Path
import periflow_sdk as pf
total = int(os.environ["STEPS"])
pf.init(total_train_steps=total, config={"lr": 0.5, "sizes": [8, 4]})
start = pf.current_step()
last = min(total, start + 50) if start else total
for step in range(start + 1, last + 1):
    with pf.train_step():
        time.sleep(0.02)
        pf.metric({"loss": 1 / step, "note": f"n{step}"})
    if step == 5 or pf.is_emergency_save():
        path = Path(os.environ["CKPT_DIR"], "state.txt")
        path.write_text(str(step))
        pf.upload_checkpoint(path)
        print("saved", flush=True)
    if pf.should_stop():
        break
    while step == total and os.environ.get("UNTIL") and not os.path.exists(os.environ["UNTIL"]):
        time.sleep(0.02)
pf.finish(early=step < total)
"""
LONG = 100_000
"""Steps of a job that ends 50 steps after a preemption."""


@pytest.fixture
def train(run: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs the training as a job with W&B: ``train(steps)``."""
    (tmp_path / "train.py").write_text(TRAINING)

    def _train(steps: int, env: dict[str, str] | None = None, **wandb: str) -> Any:
        env = {"STEPS": str(steps), **(env or {})}
        plugin = {"wandb": {"credential": "wb", **wandb}, "tensorboard": True}
        return run(f"exec python {tmp_path / 'train.py'}", env=env, plugin=plugin)

    return _train


def steps_of(rows: list[dict[str, Any]]) -> list[int]:
    return [row["_step"] for row in rows if "loss" in row]


def check(rows: list[dict[str, Any]], steps: int) -> None:
    """Each step has one row, with its own values."""
    assert steps_of(rows) == list(range(1, steps + 1))
    for row in rows:
        assert row[STEP] == row["_step"]
        assert row["loss"] == pytest.approx(1 / row[STEP]) and row["note"] == f"n{row[STEP]}"


def wandb_files(job: Any) -> list[WandbRun]:
    """What the attempts of a job have left for `wandb sync`, the first one's first."""
    found = job.folder.parents[1].rglob("run-*.wandb")
    return [read_run(path) for path in sorted(found, key=lambda path: path.stat().st_mtime)]


def handed_on(job: Any) -> int:
    """The newest row that the sink has handed to W&B; it sends them now and then."""
    marks = job.read("sinks/wandb.json").get("marks", [])
    return int(marks[-1]["state"]["rows"]["number"]) if marks else -1


def check_that_no_process_shows_the_key(sink: psutil.Process) -> None:
    """It is in no environment and in no arguments."""
    assert sink.nice() == 19
    for process in [sink, *sink.children(recursive=True), *sink.parents()[:1]]:
        for name in ("environ", "cmdline"):
            assert KEY.encode() not in Path(f"/proc/{process.pid}/{name}").read_bytes()


def check_that_no_file_has_the_key(data_dir: Path) -> None:
    netrc = Path.home() / ".netrc"
    for path in [*data_dir.rglob("*"), netrc]:
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def sink_pid(job: Any) -> int:
    return int((job.folder / "sinks" / "wandb.lock").read_text())


def sink_of(job: Any) -> psutil.Process:
    return psutil.Process(sink_pid(job))


def test_preempted_job_resumes_its_run_and_every_step_is_there_once(
    train, client, wandb, server
) -> None:
    job = train(LONG, project="vision", name="ours")
    run_id = job.job.id
    job.until(lambda: handed_on(job) > 10)
    check_that_no_process_shows_the_key(sink_of(job))
    client.preempt_job(client.project, job.job.number)
    detail = job.wait("success")
    assert {attempt.status for attempt in detail.attempts} == {"preempted", "success"}
    rows = wandb.rows(run_id)
    check(rows, detail.step)
    assert wandb.resumed == [run_id]
    assert wandb.exits[run_id][-1] == 0 and len(wandb.exits[run_id]) == 2
    assert wandb.configs[run_id]["lr"]["value"] == 0.5
    assert wandb.configs[run_id]["sizes"]["value"] == [8, 4]
    assert any(row.get("system/memory_bytes", 0) > 1e6 for row in rows)
    saved = {row["checkpoint/id"] for row in rows if "checkpoint/id" in row}
    stored = {each.id for each in client.checkpoints(client.project, job=job.job.number)}
    assert saved and saved <= stored
    assert sum("The W&B run: " in event for event in job.events) == 2
    assert not wandb_files(job), "what W&B has is not kept"
    check_that_no_file_has_the_key(server.data_dir)


def test_killed_agents_and_sinks_lose_nothing_and_repeat_nothing(train, wandb, tmp_path) -> None:
    job = train(250, {"UNTIL": str(tmp_path / "go")})
    job.until(lambda: handed_on(job) > 10)
    first = sink_of(job)
    first.kill()  # the agent has the key, and starts another
    job.until(lambda: first.pid != sink_pid(job) and handed_on(job) > 60)
    second = sink_of(job)
    job.kill_agent()  # the sink outlives it, and the next agent finds it
    job.until(lambda: handed_on(job) > 150)
    assert second.is_running() and sink_of(job) == second
    (tmp_path / "go").touch()
    job.wait("success")
    check(wandb.rows(job.job.id), 250)
    events = read_events(job.folder / "tensorboard")
    assert [point.step for point in events.Scalars("loss")] == list(range(1, 251))


def test_agent_and_sink_killed_together_keep_the_rest_in_files(train, wandb, tmp_path) -> None:
    job = train(200, {"UNTIL": str(tmp_path / "go")})
    job.until(lambda: handed_on(job) > 10)
    agent = psutil.Process(job.read("agent.json")["pid"])
    agent.suspend()
    sink_of(job).kill()
    os.kill(agent.pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    job.wait("success")
    assert sum("The key of W&B went with the agent" in event for event in job.events) == 1
    kept = wandb_files(job)[-1]
    assert kept.run_id == job.job.id
    have = [wandb.rows(job.job.id), *(run.rows for run in wandb_files(job))]
    assert {step for rows in have for step in steps_of(rows)} == set(range(1, 201))


def test_offline_run_has_the_same_id_in_every_attempt(train, client) -> None:
    job = train(LONG, mode="offline", name="ours")
    job.wait_for_line("saved")
    client.preempt_job(client.project, job.job.number)
    steps = job.wait("success").step
    first, second = wandb_files(job)
    assert first.run_id == second.run_id == job.job.id
    assert (first.project, first.name) == ("periflow", "ours")
    assert first.is_preempting and second.exit_code == 0
    assert first.config["lr"] == 0.5 and first.step_metrics["*"] == STEP
    rows = [row for run in (first, second) for row in run.rows]
    check(rows, steps)
    assert sum("wandb sync" in event for event in job.events) == 2


def test_refused_key_is_told_once_and_the_job_goes_on(train, wandb) -> None:
    wandb.behaviour = "refuses"
    job = train(20)
    job.wait("success")
    assert sum("W&B refuses the key" in event for event in job.events) == 1, job.story()
    assert job.detail.step == 20


def test_hanging_service_delays_the_end_by_a_bounded_time_and_loses_nothing(train, wandb) -> None:
    wandb.behaviour = "hangs"
    job = train(20)
    job.until(lambda: job.read("exit.json"))
    begin = time.monotonic()
    job.wait("success")
    assert time.monotonic() - begin < 60
    assert sum("did not answer in time" in event for event in job.events) == 1, job.story()
    check(wandb_files(job)[-1].rows, 20)
