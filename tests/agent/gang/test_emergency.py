"""A notice to a job on several nodes: one step for all ranks of all nodes."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

TRAINING = Path(__file__).parents[1] / "training.py"
COUPLED = Path(__file__).parents[2] / "e2e/preempted_job/coupled.py"
UNCOUPLED = COUPLED.with_name("uncoupled.py")
ONCE = {"on": []}


def uncoupled(ranks: int, options: str = "", **per_rank: str) -> str:
    """A command that starts so many ranks on its node, none of which needs another one."""
    lines = []
    for n in range(ranks):
        lines.append(f"export RANK=$((NODE_RANK * {ranks} + {n})) LOCAL_WORLD_SIZE={ranks}")
        cases = "".join(f"{name[1:]}) extra='{text}';; " for name, text in per_rank.items())
        lines.append(f"extra=''; case $RANK in {cases}*) ;; esac")
        lines.append(f"python {TRAINING} {options} $extra &")
    lines.append("code=0; for job in $(jobs -p); do wait $job || code=$?; done; exit $code")
    return "\n".join(lines)


@pytest.fixture
def begin(run_pair):
    """Runs ranks as a job of one attempt on two nodes, and waits until each has begun."""

    def _begin(ranks: int, options: str = "", **per_rank: str):
        job = run_pair(uncoupled(ranks, options, **per_rank), restart=ONCE)
        for n in range(2 * ranks):
            job.wait_for_line(f"rank {n} pid")
        return job

    return _begin


@pytest.fixture
def begin_coupled(run_pair):
    """The same with ranks that add up their gradients in every step."""

    def _begin(launcher, ranks: int, options: str = ""):
        command = launcher(COUPLED, f"--steps 100000 {options}", ranks=ranks)
        job = run_pair(command, restart=ONCE)
        job.wait_for_line("did 3")
        return job

    return _begin


def steps_of(job, what: str = "saves") -> list[int]:
    return [int(m[1]) for line in job.log if (m := re.search(rf"{what} at step (\d+)", line))]


def emergencies(job) -> list[int]:
    found = job.detail.checkpoints
    return [c.step for c in found if (c.save_type, c.status) == ("EMERGENCY", "ready")]


def only_attempt(job):
    (attempt,) = job.wait().attempts
    return attempt


def preempt(job, **options) -> None:
    job.client.preempt_job(job.client.project, job.job.number, **options)


def assert_all_saved_at_one_step(job, ranks: int) -> None:
    attempt = only_attempt(job)
    saved, left = steps_of(job), steps_of(job, "left")
    assert attempt.status == "preempted", job.story()
    assert len(saved) == len(left) == ranks and set(saved) == set(left), job.story()
    assert len(set(saved)) == 1 and f"stopped at step {saved[0]}" in attempt.reason, job.story()
    assert emergencies(job) == saved[:1], job.story()


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_preempted_ranks_of_two_nodes_save_at_one_step(begin, ranks):
    job = begin(ranks)
    preempt(job)
    assert_all_saved_at_one_step(job, 2 * ranks)
    assert sum("Every rank saves at step" in message for message in job.events) == 1


def test_ranks_that_are_coupled_over_nodes_save_at_one_step(begin_coupled, forked):
    job = begin_coupled(forked, 2)
    preempt(job)
    assert_all_saved_at_one_step(job, 4)


@pytest.mark.soak
@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_that_torchrun_couples_over_nodes_save_at_one_step(begin_coupled, torchrun, ranks):
    job = begin_coupled(torchrun, ranks)
    preempt(job)
    assert_all_saved_at_one_step(job, 2 * ranks)


@pytest.mark.soak
def test_ranks_that_are_coupled_at_the_beginning_of_a_step_save_at_one_step(
    begin_coupled, torchrun
):
    job = begin_coupled(torchrun, 1, "--ahead --seconds 0.02")
    preempt(job)
    assert_all_saved_at_one_step(job, 2)


@pytest.mark.parametrize("node", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_signal_to_one_agent_reaches_the_ranks_of_all_nodes(begin, node):
    job = begin(1)
    os.kill(job.node(node).read("agent.json")["pid"], signal.SIGTERM)
    assert_all_saved_at_one_step(job, 2)


def test_stop_saves_at_one_step_and_ends_stopped(begin):
    job = begin(1)
    job.client.stop_job(job.client.project, job.job.number)
    detail = job.wait("stopped")
    assert len(steps_of(job)) == 2 and len(set(steps_of(job))) == 1, job.story()
    assert len(detail.attempts) == 1 and emergencies(job) == steps_of(job)[:1]


def test_slow_rank_saves_at_the_step_of_the_others(begin):
    job = begin(2, "--seconds 0.1", r3="--seconds 0.3")
    preempt(job)
    assert_all_saved_at_one_step(job, 4)


def test_next_attempt_begins_at_the_emergency_checkpoint_on_all_nodes(run_pair):
    job = run_pair(f"RANK=$NODE_RANK LOCAL_WORLD_SIZE=1 python {UNCOUPLED} --steps 100000")
    job.wait_for_line("did 3")
    preempt(job)
    job.until(lambda: len(begun(job)) == 4, job.story)
    # A rank begins where its own file on its node says; the step comes from the checkpoint.
    assert set(begun(job)[2:]) == set(emergencies(job)) and begun(job)[2] > 0, job.story()
    for node in (0, 1):
        restored = job.node(node, attempt=2).folder / "ckpt"
        assert {path.name for path in restored.glob("rank-*")} == {"rank-0.txt", "rank-1.txt"}


def begun(job) -> list[int]:
    return [int(line.rsplit(" ", 1)[1]) for line in job.log if "begins at" in line]


def test_killed_server_goes_on_with_the_round(own_server, run_on):
    job = run_on(
        own_server,
        uncoupled(1, "--seconds 1.5"),
        vm="local-cpu-pair",
        devices=2,
        restart=ONCE,
    )
    for n in (0, 1):
        job.wait_for_line(f"rank {n} pid")
    preempt(job)
    job.until(lambda: job.read("state.json").get("round"), job.story)
    own_server.restart()
    assert_all_saved_at_one_step(job, 2)


@pytest.mark.soak
def test_killed_agent_goes_on_with_the_round(begin):
    job = begin(1, "--seconds 1.5")
    preempt(job)
    job.until(lambda: job.read("state.json").get("round"), job.story)
    job.node(1).kill_agent()
    assert_all_saved_at_one_step(job, 2)


def test_round_is_aborted_at_the_deadline_while_the_server_is_away(own_server, run_on):
    job = run_on(
        own_server,
        uncoupled(1, "--seconds 1.5"),
        vm="local-cpu-pair",
        devices=2,
        restart=ONCE,
    )
    for n in (0, 1):
        job.wait_for_line(f"rank {n} pid")
    preempt(job, grace_seconds=5)
    job.until(lambda: all(job.node(n).read("state.json").get("round") for n in (0, 1)), job.story)
    own_server.kill()
    until = time.monotonic() + 90
    while any(not (job.node(n).folder / "exit.json").exists() for n in (0, 1)):
        assert time.monotonic() < until
        time.sleep(0.1)
    own_server.start()
    attempt = only_attempt(job)
    assert attempt.status == "preempted" and "no emergency save" in attempt.reason, job.story()
    assert steps_of(job) == [] and emergencies(job) == []


def test_rank_that_dies_on_one_node_aborts_the_round_on_all(begin):
    job = begin(1, r1="--seconds 3")
    preempt(job)
    job.until(lambda: job.read("state.json").get("round"), job.story)
    (line,) = [line for line in job.log if line.startswith("rank 1 pid")][:1]
    os.kill(int(line.split()[3]), signal.SIGKILL)
    attempt = only_attempt(job)
    assert attempt.status == "preempted" and "a rank has died" in attempt.reason, job.story()
    assert emergencies(job) == []


def test_grace_that_is_too_short_for_one_node_leaves_all_without_a_save(begin):
    job = begin(1, r1="--seconds 6")
    preempt(job, grace_seconds=2)
    attempt = only_attempt(job)
    assert attempt.status == "preempted" and "no emergency save" in attempt.reason, job.story()
    assert emergencies(job) == [] and steps_of(job) == []


@pytest.mark.soak
def test_node_that_is_killed_during_its_save_publishes_nothing(begin):
    job = begin(1, r1="--save-seconds 600")
    preempt(job)
    job.wait_for_line("rank 1 saves")
    (line,) = [line for line in job.log if line.startswith("rank 1 pid")][:1]
    os.kill(int(line.split()[3]), signal.SIGKILL)
    attempt = only_attempt(job)
    assert attempt.status == "preempted" and "died" in attempt.reason, job.story()
    assert emergencies(job) == []
