"""Ranks under torchrun: journals, views and checkpoints of each, of all and of some."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.snapshots import download_snapshot

SCRIPT = Path(__file__).parent / "ranks_job/train.py"


class RanksJob:
    """A job of several ranks on gloo, held at its last step until ``open_gate()``."""

    def __init__(self, stranger: Any, ranks: int, shared: int) -> None:
        self.stranger = stranger
        self.shared = shared
        self.gate = stranger.folder / "gate"
        torchrun = f"{sys.executable} -m torch.distributed.run --nproc_per_node {ranks}"
        file = stranger.folder / "ranks.yml"
        file.write_text(
            "vm: local-cpu\nnum_devices: 1\njob_setting:\n  type: custom\n  docker:\n"
            "    image: none\n    env_var: {OMP_NUM_THREADS: '1'}\n"
            f"    command: {torchrun} --master_addr 127.0.0.1 --master_port $MASTER_PORT"
            f" {SCRIPT} --shared {shared} --gate {self.gate}\n"
            "checkpoint:\n  output_checkpoint_dir: /ckpt\n"
        )
        self.number = stranger.json("job", "run", "-f", file)["number"]
        self.project = stranger.project_id()

    def detail(self) -> m.JobDetail:
        with self.stranger.client() as client:
            detail: m.JobDetail = client.job(self.project, self.number)
            return detail

    def settled(self) -> list[m.Checkpoint]:
        return [c for c in self.detail().checkpoints if c.status in ("ready", "failed")]

    def open_gate(self) -> None:
        self.gate.touch()

    def values(self, *options: object) -> list[tuple[int | None, int, float]]:
        words = ("job", "metrics", "show", self.number, "--name", "loss", "--limit", 100_000)
        return [(p["rank"], p["step"], p["value"]) for p in self.stranger.json(*words, *options)]


def check_ranks(stranger: Any, ranks: int, shared: int) -> None:
    job = RanksJob(stranger, ranks, shared)
    seconds = 100 + 2 * shared
    # Each closes while the ranks are held: by the step they have started, not by their end.
    stranger.wait_until(
        lambda: len(job.settled()) >= 9 + shared or job.detail().status == "failed",
        seconds,
        lambda: f"{job.detail()}\n{stranger.log(job.number)}",
    )
    assert job.detail().status == "running", stranger.log(job.number)
    job.open_gate()
    assert stranger.wait_for_job(job.number)["status"] == "success"
    check_metrics(job, ranks)
    check_checkpoints(job, ranks)


def check_metrics(job: RanksJob, ranks: int) -> None:
    steps = range(1, 9 + job.shared + 2)
    for rank in range(ranks):
        expected = [(rank, step, float(step + 100 * rank)) for step in steps]
        assert job.values("--rank", rank) == expected
    assert job.values() == job.values("--rank", 0)
    middle = 100 * (ranks - 1) / 2
    assert job.values("--mean") == [(None, step, step + middle) for step in steps]


def check_checkpoints(job: RanksJob, ranks: int) -> None:
    import torch

    checkpoints = {c.step: c for c in job.settled()}
    assert sorted(checkpoints) == list(range(1, 9 + job.shared + 1))
    ready = {step: c for step, c in checkpoints.items() if c.status == "ready"}
    shared = [step for step in ready if step > 9]
    assert set(range(1, 10)) <= set(ready) and len(shared) >= job.shared / 2
    for step, checkpoint in ready.items():
        target = job.stranger.folder / f"checkpoint-{step}"
        with job.stranger.client() as client:
            download_snapshot(client, job.project, checkpoint.snapshot_id, target)
        files = {path.name: path for path in target.rglob("*") if path.is_file()}
        # Without a path, an upload is what has changed since the rank's own last upload.
        assert set(files) == names_at(step, ranks) or (step == 10 and "checkpoint.pt" in files)
        for path in files.values():
            state = torch.load(path, map_location="cpu")
            assert state["last"] == state["step"]
            assert torch.equal(state["weights"], torch.full((500_000,), float(state["step"])))
            assert step == state["step"] or step > 9


def names_at(step: int, ranks: int) -> set[str]:
    if step <= 3:
        return {"rank0.pt"}
    if step <= 6:
        return {f"shard-{rank}.pt" for rank in range(ranks)}
    return {"last.pt"} if step <= 9 else {"checkpoint.pt"}


def test_two_ranks_save_in_every_way_and_publish_whole_checkpoints(stranger) -> None:
    check_ranks(stranger, 2, 20)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_that_save_the_same_file_a_hundred_times_tear_none(stranger, ranks: int) -> None:
    check_ranks(stranger, ranks, 100)
