"""A sharded checkpoint of two ranks, through the agent."""

from __future__ import annotations

import pytest
from warm_python import warm_python

from periflow_sdk.snapshots import download_snapshot

RANKS = """
import os, time, torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
import torch.distributed.checkpoint.filesystem as fs
import periflow_sdk as pf

write = fs.FileSystemWriter.write_data
def slow(self, *args):
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.01)
    return write(self, *args)
fs.FileSystemWriter.write_data = slow

rank = int(os.environ["RANK"])
store = "file://" + os.environ["STORE"]
dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
weights = distribute_tensor(torch.arange(6.0), init_device_mesh("cpu", (2,)), [Shard(0)])
pf.init(total_train_steps=3)
for number in range(3):
    with pf.train_step():
        weights.to_local().add_(1)
    if number == 0:
        pf.save_checkpoint({"w": weights}, "sharded")
os.write(1, f"trained {rank}\\n".encode())  # ranks share one pipe
pf.finish()
dist.destroy_process_group()
"""


def test_it_is_published_whole_when_all_ranks_have_written_it(run, client, tmp_path, until):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    job = run(
        f"RANK=1 {warm_python()} {script} & RANK=0 {warm_python()} {script} && wait $!",
        env={
            "GATE": str(tmp_path / "gate"),
            "STORE": str(tmp_path / "store"),
            "WORLD_SIZE": "2",
            "OMP_NUM_THREADS": "1",
        },
    )
    job.wait_for_line("trained 0")
    job.wait_for_line("trained 1")
    assert client.checkpoints(client.project, job=job.job.number) == []
    (tmp_path / "gate").touch()
    job.wait("success")
    (checkpoint,) = client.checkpoints(client.project, job=job.job.number)
    assert (checkpoint.step, checkpoint.status) == (1, "ready")
    download_snapshot(client, client.project, checkpoint.snapshot_id, tmp_path / "got")
    torch = pytest.importorskip("torch")
    state = {"w": torch.zeros(6)}
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    dcp.load(state, checkpoint_id=tmp_path / "got" / "sharded")
    assert state["w"].tolist() == [1, 2, 3, 4, 5, 6]
    assert not list((job.folder / "ckpt" / ".periflow").glob("*/sharded"))
