"""Checkpoints whose parts are on several nodes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from periflow_sdk.snapshots import download_snapshot

SAVING = Path(__file__).with_name("saving.py")


def saving(options: str = "", ranks: int = 1) -> str:
    """A command that starts so many uncoupled ranks on its node."""
    starts = " ".join(
        f"RANK=$((NODE_RANK * {ranks} + {n})) LOCAL_WORLD_SIZE={ranks} python {SAVING} {options} &"
        for n in range(ranks)
    )
    return f"{starts} code=0; for job in $(jobs -p); do wait $job || code=$?; done; exit $code"


@pytest.fixture
def content_of(tmp_path):
    """The files of a job's checkpoint: name → text."""

    def _content(job, checkpoint):
        target = tmp_path / checkpoint.id
        download_snapshot(job.client, job.client.project, checkpoint.snapshot_id, target)
        return {path.name: path.read_text() for path in target.iterdir()}

    return _content


def ready(job, step=None):
    return [c for c in job.detail.checkpoints if c.status == "ready" and step in (None, c.step)]


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_parts_of_two_nodes_become_one_checkpoint(run_pair, content_of, ranks):
    job = run_pair(saving(ranks=ranks))
    job.wait("success")
    for step in (3, 6):
        (checkpoint,) = ready(job, step)
        assert content_of(job, checkpoint) == {
            f"rank-{n}.txt": f"{n} at {step}" for n in range(2 * ranks)
        }, job.story()
    assert len(job.detail.checkpoints) == 2
    assert checkpoint.size == 6 * 2 * ranks


def test_node_without_a_part_is_waited_for_until_it_has_passed_the_step(
    run_pair, content_of, tmp_path
):
    go = tmp_path / "go"
    job = run_pair(saving(f"--only 0 --wait-at 3 --wait-rank 1 --until {go}"))
    job.wait_for_line("rank 1 waits")
    job.until(lambda: [c.step for c in job.detail.checkpoints] == [6, 3], job.story)
    assert [c.status for c in job.detail.checkpoints] == ["uploading", "uploading"]
    go.touch()
    job.wait("success")
    assert [content_of(job, c) for c in ready(job, 3)] == [{"rank-0.txt": "0 at 3"}]


def test_joined_checkpoint_is_restored_on_every_node(run_pair):
    job = run_pair(saving("--leave-at 3"), restart={"backoff_seconds": 0})
    detail = job.wait("success")
    assert [attempt.status for attempt in detail.attempts] == ["preempted", "success"]
    both = "begins at 3 with ['rank-0.txt', 'rank-1.txt']"
    assert {f"rank 0 {both}", f"rank 1 {both}"} <= set(job.log), job.story()


def test_agent_and_worker_that_are_killed_hand_in_the_rest(run_pair, content_of, tmp_path):
    go = tmp_path / "go"
    job = run_pair(saving(f"--wait-at 4 --until {go}"))
    job.until(lambda: sum("waits" in line for line in job.log) == 2, job.story)
    for node in (0, 1):
        job.node(node).kill_agent()
    go.touch()
    job.wait("success")
    for step in (3, 6):
        (checkpoint,) = ready(job, step)
        assert content_of(job, checkpoint) == {f"rank-{n}.txt": f"{n} at {step}" for n in (0, 1)}


def test_node_that_died_before_it_passed_leaves_the_checkpoint_unpublished(run_pair, tmp_path):
    job = run_pair(saving(f"--only 0 --wait-at 3 --wait-rank 1 --until {tmp_path}/never"))
    job.wait_for_line("rank 1 waits")
    job.until(lambda: len(job.detail.checkpoints) == 2, job.story)
    os.kill(pid_of(job, 1), signal.SIGKILL)
    detail = job.wait("failed")
    assert detail.reason.startswith("node 1"), job.story()
    assert {c.status for c in detail.checkpoints} == {"failed"}
    reasons = {c.reason for c in detail.checkpoints}
    assert any("node 1 ended before its ranks had passed step 3" in r for r in reasons), reasons


def test_server_that_is_killed_joins_what_it_had_and_what_comes(
    own_server, run_on, content_of, tmp_path
):
    go = tmp_path / "go"
    command = saving(f"--wait-at 4 --wait-rank 1 --until {go}")
    job = run_on(own_server, command, vm="local-cpu-pair", devices=2)
    job.wait_for_line("rank 1 waits")
    job.until(lambda: len(job.detail.checkpoints) == 2, job.story)
    own_server.kill()
    go.touch()
    own_server.start()
    job.wait("success")
    for step in (3, 6):
        (checkpoint,) = ready(job, step)
        assert content_of(job, checkpoint) == {f"rank-{n}.txt": f"{n} at {step}" for n in (0, 1)}


def test_part_of_a_lost_node_is_handed_in_by_its_next_agent(run_pair, tmp_path):
    go = tmp_path / "go"
    job = run_pair(saving(f"--wait-at 2 --until {go}"), restart={"backoff_seconds": 0})
    job.until(lambda: sum("waits" in line for line in job.log) == 2, job.story)
    (job.node(1).folder / "token").unlink()  # no agent comes up there any more
    os.kill(job.node(1).read("agent.json")["pid"], signal.SIGKILL)
    go.touch()
    detail = job.wait("success")
    assert [attempt.status for attempt in detail.attempts] == ["node-lost", "success"]
    told = [(e.attempt, e.message) for e in detail.events if e.kind == "checkpoint"]
    assert (1, "The checkpoint of step 6 is ready.") in told, job.story()


def test_sharded_state_of_two_nodes_is_one_checkpoint(run_pair, forked, tmp_path):
    torch = pytest.importorskip("torch")
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    job = run_pair(forked(SAVING.with_name("sharded.py")))
    job.wait("success", seconds=90)
    (checkpoint,) = ready(job)
    assert checkpoint.step == 1, job.story()
    download_snapshot(job.client, job.client.project, checkpoint.snapshot_id, tmp_path / "got")
    state = {"w": torch.zeros(6)}
    dcp.load(state, checkpoint_id=tmp_path / "got" / "sharded")
    assert state["w"].tolist() == [1, 2, 3, 4, 5, 6]


def pid_of(job, rank: int) -> int:
    (line,) = [line for line in job.log if line.startswith(f"pid of rank {rank}:")]
    return int(line.split()[-1])
