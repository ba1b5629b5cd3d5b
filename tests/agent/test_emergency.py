"""From a notice to the end of the attempt: one step, one save, and what counts."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from warm_python import warm_python

from periflow_sdk.agent.decider import NodeDecider
from periflow_sdk.agent.emergency import Emergency
from periflow_sdk.agent.ending import finish_report
from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.state import StateFile
from periflow_sdk.agent.training import Exit

TRAINING = Path(__file__).with_name("training.py")
ENDED = ("success", "failed", "stopped")
ONCE = {"on": []}


def ranks(count: int, options: str = "", **per_rank: str) -> str:
    """A command that starts so many uncoupled ranks and ends with the first bad exit code."""
    lines = [
        f"RANK={n} WORLD_SIZE={count} python {TRAINING} {options} {per_rank.get(f'r{n}', '')} &"
        for n in range(count)
    ]
    waits = "code=0; for job in $(jobs -p); do wait $job || code=$?; done; exit $code"
    return "\n".join([*lines, waits])


@pytest.fixture
def begin(run, client):
    """Runs ranks as a job of one attempt, and waits until each has begun."""

    def _begin(count: int, options: str = "", **per_rank: str):
        job = run(ranks(count, options, **per_rank), devices=count, restart=ONCE)
        for n in range(count):
            job.wait_for_line(f"rank {n} pid")
        return job

    return _begin


def saved_steps(log: list[str], word: str = "saves") -> list[int]:
    return [int(m[1]) for line in log if (m := re.search(rf"{word} at step (\d+)", line))]


def pid_of(job, rank: int) -> int:
    (line,) = [line for line in job.log if line.startswith(f"rank {rank} pid")][:1]
    return int(line.split()[3])


def only_attempt(job):
    """The attempt of a job that is not started again, once it has ended."""
    (attempt,) = job.wait(*ENDED).attempts
    return attempt


def emergency_steps(job) -> list[int]:
    found = job.detail.checkpoints
    return [c.step for c in found if (c.save_type, c.status) == ("EMERGENCY", "ready")]


def test_preempted_ranks_save_at_one_step_and_the_attempt_ends_preempted(begin, client):
    job = begin(2, "--listens")
    client.preempt_job(client.project, job.job.number)
    attempt = only_attempt(job)
    steps = saved_steps(job.log)
    assert attempt.status == "preempted" and attempt.exit_code == 0, job.story()
    assert len(set(steps)) == 1 and saved_steps(job.log, "left") == steps, job.story()
    assert f"step {steps[0]}" in attempt.reason
    assert not [line for line in job.log if "SIGTERM" in line], "its handlers might end it"
    assert steps[0] in emergency_steps(job)
    assert job.detail.notice_to_durable_seconds < 30


def test_upload_of_the_save_gives_way_to_nobody(begin, client, until):
    job = begin(1, "--save-seconds 3")
    supervisor = psutil.Process(job.read("agent.json")["pid"])

    def nicenesses():
        try:
            return [
                p.nice() for p in supervisor.children(recursive=True) if "--worker" in p.cmdline()
            ]
        except psutil.Error:  # one of them has just ended
            return []

    until(lambda: nicenesses() == [19], job.story)
    client.preempt_job(client.project, job.job.number)
    until(lambda: nicenesses() == [supervisor.nice()], job.story)
    assert only_attempt(job).status == "preempted"
    assert emergency_steps(job) == saved_steps(job.log)


def test_command_that_does_not_end_after_its_ranks_have_is_ended(begin, client):
    job = begin(1, "--lingers")
    client.preempt_job(client.project, job.job.number)
    attempt = only_attempt(job)
    assert attempt.status == "preempted" and "every rank stopped" in attempt.reason, job.story()
    assert emergency_steps(job) == saved_steps(job.log)


def test_stopped_job_saves_first_and_ends_stopped(begin, client):
    job = begin(2)
    client.stop_job(client.project, job.job.number)
    detail = job.wait("stopped")
    assert len(detail.attempts) == 1
    assert len(set(saved_steps(job.log))) == 1
    assert emergency_steps(job) == saved_steps(job.log)[:1]


def test_signal_to_the_agent_is_a_notice_for_every_rank(begin):
    job = begin(2)
    os.kill(job.read("agent.json")["pid"], signal.SIGTERM)
    attempt = only_attempt(job)
    assert attempt.status == "preempted", job.story()
    assert len(set(saved_steps(job.log))) == 1


def test_signal_to_one_rank_is_a_notice_for_every_rank(begin):
    job = begin(2)
    os.kill(pid_of(job, 1), signal.SIGTERM)
    attempt = only_attempt(job)
    assert attempt.status == "preempted", job.story()
    assert len(set(saved_steps(job.log))) == 1


def test_ranks_of_different_speed_save_at_one_step(begin, client):
    job = begin(2, r1="--seconds 0.15")
    client.preempt_job(client.project, job.job.number)
    assert only_attempt(job).status == "preempted"
    assert len(set(saved_steps(job.log))) == 1, job.story()


def test_later_agent_goes_on_with_the_round_of_a_killed_one(begin, client, until):
    job = begin(2, "--seconds 1.5")
    client.preempt_job(client.project, job.job.number)
    until(lambda: job.read("state.json").get("round"), job.story)
    job.kill_agent()
    assert only_attempt(job).status == "preempted"
    assert len(set(saved_steps(job.log))) == 1, job.story()


def test_second_stop_ends_a_slow_save(begin, client):
    job = begin(1, "--save-seconds 600")
    client.stop_job(client.project, job.job.number)
    job.wait_for_line("saves at step")
    client.stop_job(client.project, job.job.number)
    assert job.wait("stopped").attempts[0].exit_code == 137
    assert emergency_steps(job) == []


def test_grace_that_is_too_short_leaves_the_last_checkpoint_standing(begin, client):
    job = begin(2, r1="--seconds 5")
    begun = time.monotonic()
    client.preempt_job(client.project, job.job.number, grace_seconds=1)
    attempt = only_attempt(job)
    assert time.monotonic() - begun < 30
    assert attempt.status == "preempted" and "no emergency save" in attempt.reason, job.story()
    assert emergency_steps(job) == []


def test_agent_that_looks_only_when_the_time_is_over_still_says_why_it_killed(tmp_path):
    memory, killed = StateFile(tmp_path / "state.json"), []
    memory.state.run_dir = str(tmp_path)
    training = SimpleNamespace(terminate=lambda: None, kill=lambda: killed.append(True))
    folder = NodeFolder.open(tmp_path)
    emergency = Emergency(folder, memory, training, lambda *_: None, NodeDecider())
    emergency.hear("preempt", time.time(), time.time() - 1)
    emergency.tend()
    report = finish_report(folder, memory.state, Exit(None, signal.SIGKILL), {})
    assert killed and report.outcome == "preempted"
    assert "no emergency save: there was no time left" in report.reason


def test_rank_that_is_killed_during_the_round_aborts_it(begin, client, until):
    job = begin(2, r1="--seconds 3")
    client.preempt_job(client.project, job.job.number)
    until(lambda: job.read("state.json").get("round"), job.story)
    os.kill(pid_of(job, 1), signal.SIGKILL)
    attempt = only_attempt(job)
    assert attempt.status == "preempted" and "a rank has died" in attempt.reason, job.story()
    assert emergency_steps(job) == []


def test_rank_that_is_killed_during_its_save_publishes_nothing(begin, client):
    job = begin(2, r1="--save-seconds 600")
    client.preempt_job(client.project, job.job.number)
    job.wait_for_line("rank 1 saves")
    os.kill(pid_of(job, 1), signal.SIGKILL)
    attempt = only_attempt(job)
    assert attempt.status == "preempted" and "died" in attempt.reason, job.story()
    assert emergency_steps(job) == []


def test_rank_that_leaves_before_the_step_of_the_save_leaves_it_unpublished(begin, client):
    job = begin(2, r1="--leaves-before")
    client.preempt_job(client.project, job.job.number)
    attempt = only_attempt(job)
    (step,) = saved_steps(job.log)
    assert saved_steps(job.log, "leaves")[0] < step
    assert attempt.status == "preempted" and "rank 1 left before" in attempt.reason, job.story()
    (refused,) = [c for c in job.detail.checkpoints if c.save_type == "EMERGENCY"]
    assert refused.status == "failed" and refused.step == step
    assert re.search(
        rf"[Rr]ank 1 left at step \d+, before the emergency step {step}", refused.reason
    )


def test_emergency_save_of_rank_0_alone_is_published(begin, client):
    job = begin(2, "--only-rank-0")
    client.preempt_job(client.project, job.job.number)
    assert only_attempt(job).status == "preempted", job.story()
    assert emergency_steps(job) == saved_steps(job.log), job.story()


def test_save_at_the_agreed_step_acknowledges_the_stop_without_should_stop(begin, client):
    job = begin(2, "--never-stops")
    client.preempt_job(client.project, job.job.number)
    attempt = only_attempt(job)
    steps = saved_steps(job.log)
    assert (attempt.status, attempt.exit_code) == ("preempted", 0), job.story()
    assert len(steps) == 2 and f"every rank stopped at step {steps[0]}" in attempt.reason
    assert emergency_steps(job) == steps[:1] and saved_steps(job.log, "left") == []


def test_script_that_never_asks_is_ended_soon_after_the_step(begin, client):
    job = begin(1, "--deaf")
    begun = time.monotonic()
    client.preempt_job(client.project, job.job.number)
    attempt = only_attempt(job)
    assert attempt.status == "preempted" and "should_stop()" in attempt.reason, job.story()
    assert time.monotonic() - begun < 60


def test_acknowledged_stop_counts_whatever_the_exit_code(begin, client):
    job = begin(1, "--exit-code 1")
    client.preempt_job(client.project, job.job.number)
    attempt = only_attempt(job)
    assert (attempt.status, attempt.exit_code) == ("preempted", 1), job.story()
    assert "exited with code 1" in attempt.reason
    assert emergency_steps(job) == saved_steps(job.log)


def test_exit_half_way_that_nobody_asked_for_is_a_failure(run, tmp_path):
    (tmp_path / "half.py").write_text(
        "import os, signal, sys, time\n"
        "import periflow_sdk as pf\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "pf.init(total_train_steps=100)\n"
        "for step in range(1, 41):\n"
        "    with pf.train_step(): pass\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(600)\n"
    )
    job = run(f"exec python {tmp_path}/half.py")
    detail = job.wait("failed")
    assert detail.reason == "exited at step 40 of 100"


def test_script_that_is_done_early_and_says_so_is_a_success(run):
    detail = run(ranks(2, "--steps 100 --enough 40 --seconds 0.001"), devices=2).wait("success")
    assert detail.reason == detail.attempts[0].reason == "finished early at step 40 of 100"
    assert len(detail.attempts) == 1


def test_acknowledged_stop_counts_more_than_a_word_of_being_early(begin, client):
    job = begin(1, "--says-early")
    client.preempt_job(client.project, job.job.number)
    assert only_attempt(job).status == "preempted", job.story()


def test_rank_that_fails_under_torchrun_makes_no_preemption_of_what_the_others_are_sent(run, until):
    launcher = f"{warm_python()} -m torch.distributed.run --standalone --nproc-per-node 2"
    job = run(f"{launcher} {TRAINING} --raises-at 20", devices=2)
    until(lambda: job.detail.status in ENDED, job.story, 150)  # torchrun loads torch
    (attempt,) = job.wait("failed").attempts
    assert (attempt.status, attempt.exit_code) == ("failed", 1), job.story()
    assert not [e for e in job.detail.events if e.kind == "notice"]


def test_init_in_a_job_that_has_done_all_its_steps_returns_and_says_so(run, tmp_path):
    (tmp_path / "all.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        "import periflow_sdk as pf\n"
        "pf.init(total_train_steps=3)\n"
        "print('begins', pf.current_step(), pf.status().is_complete, pf.should_stop())\n"
        "for step in range(pf.current_step(), 3):\n"
        "    with pf.train_step(): pass\n"
        "    Path(os.environ['CKPT_DIR'], 'model.txt').write_text(str(step))\n"
        "    pf.upload_checkpoint()\n"
        "if os.environ['PROCESSED_ITERS'] == '0':\n"
        "    os._exit(75)\n"  # taken after the last step, before the end
    )
    job = run(f"exec python -u {tmp_path}/all.py", restart={"backoff_seconds": 0})
    detail = job.wait("success")
    assert [attempt.status for attempt in detail.attempts] == ["preempted", "success"], job.story()
    assert job.log == ["begins 0 False False", "begins 3 True True"]
    assert detail.attempts[1].exit_code == 0 and detail.step == detail.total_steps == 3


def test_command_without_the_sdk_that_exits_75_is_preempted(run):
    job = run("exit 75", restart=ONCE)
    attempt = only_attempt(job)
    assert (attempt.status, attempt.exit_code) == ("preempted", 75)


def test_command_without_the_sdk_gets_the_signal_at_once(run, client):
    job = run(
        "trap 'echo saving; exit 0' TERM; echo ready; while :; do sleep 0.05; done", restart=ONCE
    )
    job.wait_for_line("ready")
    client.preempt_job(client.project, job.job.number)
    attempt = only_attempt(job)
    assert (attempt.status, attempt.exit_code) == ("preempted", 0)
    assert job.log.count("saving") >= 1
