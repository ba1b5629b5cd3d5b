"""Several nodes of one job: placed together, they find each other."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

ALL_REDUCE = Path(__file__).with_name("all_reduce.py")


@pytest.mark.soak
def test_ranks_of_two_nodes_meet_in_an_all_reduce(run_pair, torchrun):
    job = run_pair(torchrun(ALL_REDUCE))
    detail = job.wait("success", seconds=90)
    said = sorted(line for line in job.log if line.startswith("RANK="))
    assert said == [
        f"RANK={n} LOCAL_RANK=0 WORLD_SIZE=2 NODE_RANK={n} NUM_NODES=2 NPROC_PER_NODE=1 total=11"
        for n in range(2)
    ], job.story()
    assert "Attempt 1 got 2 local-cpu-pair devices on 2 nodes." in job.events
    assert len(detail.attempts) == 1


def test_two_ranks_on_each_of_two_nodes_meet(run_pair, torchrun):
    job = run_pair(torchrun(ALL_REDUCE, ranks=2))
    detail = job.wait("success")
    said = sorted(line for line in job.log if line.startswith("RANK="))
    assert said == [
        f"RANK={n} LOCAL_RANK={n % 2} WORLD_SIZE=4 NODE_RANK={n // 2} NUM_NODES=2"
        " NPROC_PER_NODE=1 total=1111"
        for n in range(4)
    ], job.story()
    assert "Attempt 1 got 2 local-cpu-pair devices on 2 nodes." in job.events
    assert len(detail.attempts) == 1


def test_command_without_a_launcher_has_the_rank_of_its_node(run_pair, client):
    script = "import periflow_sdk as pf; pf.init(total_train_steps=1); "
    script += "s = pf.train_step(); s.__enter__(); pf.metric({'x': pf.status().rank}); "
    job = run_pair(f'python -c "{script} s.__exit__(None, None, None)"')
    job.wait("success")
    values = [
        client.metric_series(client.project, job.job.number, "x", rank=rank).values
        for rank in range(2)
    ]
    assert values == [[0], [1]]


def on_node(first: str, second: str) -> str:
    """A command that is another one on each of two nodes."""
    return f"if [ $NODE_RANK = 0 ]; then {first}; else {second}; fi"


def test_failure_of_a_node_ends_the_job_with_the_output_of_all(run_pair):
    job = run_pair(
        on_node("echo here; trap 'echo told; exit 0' TERM; while :; do sleep 0.1; done", "exit 3")
    )
    detail = job.wait("failed")
    assert (detail.reason, detail.exit_code) == ("node 1: exited with code 3", 3)
    assert (job.log[0], job.log[-1]) == ("here", "told"), job.story()
    assert [(n.node, n.outcome, n.exit_code) for n in detail.nodes] == [
        (0, "exited", 0),
        (1, "exited", 3),
    ]


def test_node_that_does_not_end_with_the_others_is_killed(run_pair):
    job = run_pair(on_node("trap '' TERM; while :; do sleep 0.1; done", "exit 1"))
    detail = job.wait("failed")
    assert detail.reason == "node 1: exited with code 1"
    assert detail.nodes[0].exit_code == 137


def test_job_succeeds_when_its_last_node_has_ended(run_pair, tmp_path):
    job = run_pair(on_node(f"until test -e {tmp_path}/go; do sleep 0.05; done", "echo done"))
    job.wait_for_line("done")
    job.until(lambda: job.detail.nodes[1].outcome == "exited")
    assert job.detail.status == "running"
    (tmp_path / "go").touch()
    assert job.wait("success").exit_code == 0


def test_lost_node_ends_the_attempt_on_the_other_and_the_next_one_starts(run_pair):
    job = run_pair(
        on_node("echo alive; sleep 600", "echo alive; [ $PERIFLOW_AGAIN ] || sleep 600"),
        restart={"backoff_seconds": 0, "max_attempts": 2},
    )
    job.until(lambda: job.log == ["alive", "alive"], job.story)
    pids = [json.loads((job.node(n).folder / "training.json").read_text())["pid"] for n in (0, 1)]
    (job.node(1).folder / "token").unlink()  # no agent comes up there any more
    (job.node(1).folder / "agent.lock").unlink()
    os.kill(job.node(1).read("agent.json")["pid"], signal.SIGKILL)
    os.kill(pids[1], signal.SIGKILL)
    job.until(lambda: len(job.detail.attempts) == 2, job.story)
    first = job.detail.attempts[0]
    assert first.status == "node-lost" and "node 1" in first.reason, job.story()
    job.until(lambda: not psutil.pid_exists(pids[0]), job.story)
    job.until(lambda: job.log == ["alive"] * 4, job.story)
    assert [node.outcome for node in job.detail.nodes] == [None, None]


def test_killed_agents_of_a_gang_adopt_their_trainings(run_pair, tmp_path):
    job = run_pair(f"echo $NODE_RANK; until test -e {tmp_path}/go; do sleep 0.05; done; echo end")
    job.until(lambda: sorted(job.log) == ["0", "1"], job.story)
    for node in (0, 1):
        job.node(node).kill_agent()
    (tmp_path / "go").touch()
    detail = job.wait("success")
    assert sorted(job.log) == ["0", "1", "end", "end"]
    assert len(detail.attempts) == 1


def test_view_knows_both_nodes(run_pair, tmp_path):
    job = run_pair(f"until test -e {tmp_path}/go; do sleep 0.05; done")
    job.until(lambda: job.detail.system and len(job.detail.system.nodes) == 2, job.story)
    detail = job.detail
    assert sorted(device for node in detail.nodes for device in node.devices) == [0, 1]
    assert all(node.address and node.heartbeat_at for node in detail.nodes)
    assert [node.node for node in detail.system.nodes] == [0, 1]
    (tmp_path / "go").touch()
    job.wait("success")
