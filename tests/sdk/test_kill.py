"""What a call returned for survives a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from periflow_sdk import _control as word
from periflow_sdk._metric_log import HELD_NANOSECONDS, HELD_STEPS

if TYPE_CHECKING:
    from conftest import Run


# The parent reads how far the calls had returned from a pipe; the journal must have all of it.
TRAINING = textwrap.dedent("""
    import os, sys
    import periflow_sdk as pf
    pf.init(total_train_steps=10**9, local_log_name=sys.argv[1])
    for step in range(10**9):
        pf.start_step()
        pf.metric({"loss": step + 0.5, "lr": 1e-3})
        os.write(1, b"m")
        pf.end_step()
        os.write(1, b"s")
""")


def start(run: Run) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(run.log_name)],
        env=run.variables(),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def kill_after(process: subprocess.Popen[bytes], calls: int, *, group: bool) -> tuple[int, int]:
    """Kill after so many calls; how many metric() and end_step() calls had returned."""
    assert process.stdout is not None
    seen = bytearray()
    while len(seen) < calls:
        seen += process.stdout.read1(4096) or pytest.fail("the training ended by itself")
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait(90)
    seen += process.stdout.read()
    process.stdout.close()
    return seen.count(b"m"), seen.count(b"s")


@pytest.mark.parametrize("group", [False, True], ids=["process", "process group"])
@pytest.mark.parametrize("calls", [1, 40_000])
def test_killed_training_has_lost_no_record_it_returned_for(
    job: Run, calls: int, group: bool
) -> None:
    metrics, steps = kill_after(start(job), calls, group=group)
    losses = [values["loss"] for _, values in job.metrics()]
    finished = [record["s"] for record in job.records(kind="step")]
    # One more may have been written than had been reported back.
    assert losses == [i + 0.5 for i in range(len(losses))] and 0 <= len(losses) - metrics <= 1
    assert finished == list(range(1, len(finished) + 1)) and 0 <= len(finished) - steps <= 1


# As a framework's callback reports steps; the pipe tells when each of them ended.
QUICK_STEPS = textwrap.dedent("""
    import sys, time
    import periflow_sdk as pf
    from periflow_sdk import _training
    pf.init()
    seconds = float(sys.argv[1])
    for step in range(10**9):
        pf.start_step()
        if seconds:
            time.sleep(seconds)
        ended_at = time.perf_counter_ns()
        _training._run.complete_step({"loss": step + 0.5}, ended_at)
        print(ended_at, flush=True)
""")


@pytest.mark.parametrize(("seconds", "steps"), [(0, 20_000), (0.002, 100), (0.06, 5)])
def test_killed_training_by_a_framework_has_lost_the_quick_steps_of_an_instant(
    job: Run, seconds: float, steps: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", QUICK_STEPS, str(seconds)],
        env=job.variables(),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    ended = [int(process.stdout.readline()) for _ in range(steps)]
    process.kill()
    ended += [int(line) for line in process.stdout.read().splitlines()]
    process.wait(90)
    process.stdout.close()
    losses = [values["loss"] for _, values in job.metrics()]
    assert losses == [i + 0.5 for i in range(len(losses))]
    assert [r["s"] for r in job.records(kind="step")] == list(range(1, len(losses) + 1))
    assert job.word("progress", word.FINISHED) >= len(ended)
    lost = ended[len(losses) :]
    assert len(lost) < HELD_STEPS
    assert not lost or lost[-1] - lost[0] <= HELD_NANOSECONDS
    if seconds > HELD_NANOSECONDS / 1e9:
        assert not lost


def test_killed_local_run_has_lost_no_metric(local: Run) -> None:
    metrics, _ = kill_after(start(local), 2_000, group=False)
    steps = [step for step, _ in local.metrics()]
    assert steps == list(range(1, len(steps) + 1)) and 0 <= len(steps) - metrics <= 1


def test_next_process_of_the_rank_opens_a_segment_of_its_own_after_a_torn_line(job: Run) -> None:
    kill_after(start(job), 10, group=False)
    (first,) = job.segments()
    with first.open("ab") as segment:
        segment.write(b'{"t":"metric","s":6,"w":17')
    torn = first.read_bytes()
    job.script("import periflow_sdk as pf; pf.init(); pf.metric({'loss': 2.0})")
    assert len(job.segments()) == 2
    assert job.segments()[0] == first and first.read_bytes() == torn
    assert job.metrics()[-1] == (0, {"loss": 2.0})
    assert [r["t"] for r in job.records()].count("header") == 2
