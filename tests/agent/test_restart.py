"""A launcher that starts its ranks again within an attempt: no step is lost or shown twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from warm_python import warm_python

SCRIPT = Path(__file__).with_name("restarted.py")


@pytest.mark.parametrize("options", ["--apart", "--format dcp"])
def test_restarted_ranks_go_on_from_the_newest_checkpoint_on_this_disk(
    run, client, until, tmp_path, options
):
    job = run(
        f"OMP_NUM_THREADS=1 {warm_python()} -m torch.distributed.run --standalone"
        f" --nproc-per-node 2 --max-restarts 1 {SCRIPT} --once {tmp_path}/once {options}",
        devices=2,
    )
    until(lambda: job.detail.status in ("success", "failed"), job.story, 150)  # torch loads twice
    detail = job.wait("success")
    begun = sorted(line for line in job.log if "begins at" in line)
    assert begun == [f"rank {n} begins at {step} with {step}" for n in (0, 1) for step in (0, 20)]
    assert len(detail.attempts) == 1 and detail.step == 40
    for rank in (0, 1):
        weight = client.metric_series(client.project, job.job.number, "weight", rank=rank)
        assert weight.steps == weight.values == list(range(1, 41))
    ready = sorted(c.step for c in detail.checkpoints if c.status == "ready")
    assert ready == [10, 20, 30, 40], job.story()
