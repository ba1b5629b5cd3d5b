"""Each framework as a job of two ranks that is preempted once: no step is lost, none repeated."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from warm_python import warm_python

RANKS = Path(__file__).parent / "ranks"
TOTAL, PER_EPOCH = 120, 40
SECONDS = 100.0


def begin(run, script: str, hurry: Path):
    command = f"OMP_NUM_THREADS=1 {warm_python()} {RANKS / 'launch.py'} {RANKS / script} 2"
    return run(command, devices=2, env={"HURRY": str(hurry)})


def steps(job, word: str) -> list[int]:
    """The steps at which ranks say that they begin or end, in the order of the log."""
    found = [re.search(rf"rank \d pid \d+ {word}.* at step (\d+)", line) for line in job.log]
    return [int(match[1]) for match in found if match]


def preempt(job, client, way: str) -> None:
    """Once ten steps are done: through the API, or by a SIGTERM that one rank alone gets."""

    def has_done_ten() -> bool:
        names = client.metric_names(client.project, job.job.number)
        return any(name.name == "loss" and name.last_step >= 10 for name in names)

    job.wait_for_line("rank 1 pid", SECONDS)
    job.until(has_done_ten)
    if way == "pf":
        client.preempt_job(client.project, job.job.number)
    else:
        (pid,) = {int(m[1]) for line in job.log if (m := re.match(r"rank 1 pid (\d+)", line))}
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize(
    ("framework", "way"),
    [
        ("lightning", "rank"),
        ("transformers", "pf"),
        pytest.param("accelerate", "pf", marks=pytest.mark.soak),
    ],
)
def test_two_ranks_of_a_framework_go_on_where_they_saved(
    run, client, tmp_path, framework, way
) -> None:
    job = begin(run, f"{framework}_rank.py", tmp_path / "hurry")
    preempt(job, client, way)
    job.until(lambda: len(job.detail.attempts) == 2)
    (tmp_path / "hurry").touch()
    detail = job.wait("success", seconds=SECONDS)

    assert [attempt.status for attempt in detail.attempts] == ["preempted", "success"]
    (saved,) = [c for c in detail.checkpoints if c.save_type == "EMERGENCY"]
    assert saved.status == "ready" and 10 <= saved.step < TOTAL
    assert steps(job, "ends") == [saved.step] * 2 + [TOTAL] * 2, job.story()
    assert steps(job, "begins") == [0] * 2 + [saved.step] * 2
    assert not steps(job, "validates"), job.story()
    codes = [line for line in job.log if line.startswith("exit codes")]
    assert set(codes) == {"exit codes [0, 0]"}, job.story()
    losses = client.metric_series(client.project, job.job.number, "loss")
    assert losses.steps == list(range(1, TOTAL + 1))
    assert losses.values == [1.0 - step for step in losses.steps]
    if framework == "lightning":
        samples = client.metric_series(client.project, job.job.number, "sample")
        assert samples.values == [2.0 * (step % PER_EPOCH) for step in range(TOTAL)]
