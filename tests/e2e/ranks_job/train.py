"""Ranks that save in every way scripts do; run by torchrun.

``train.py --shared N --gate FILE``: at steps 1 to 9 rank 0 alone, every rank or only the last
rank saves; then, N times, the loop of the tutorial, in which every rank saves the same
``checkpoint.pt``. One more step, in which the ranks wait for FILE.
"""

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

import periflow_sdk as pf

parser = argparse.ArgumentParser()
parser.add_argument("--shared", type=int, default=20)
parser.add_argument("--gate", type=Path, required=True)
args = parser.parse_args()

torch.set_num_threads(1)
total = 9 + args.shared + 1
pf.init(total_train_steps=total)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
folder = Path(os.environ["CKPT_DIR"])


def save(step: int, name: str) -> None:
    weights = torch.full((500_000,), float(step))
    torch.save({"step": step, "weights": weights, "last": step}, folder / name)


for step in range(1, total + 1):
    with pf.train_step():
        loss = torch.tensor(float(step + 100 * rank))
        mean = loss.clone()
        dist.all_reduce(mean)
        pf.metric({"loss": loss, "sum": mean})
        if step <= 3:
            if rank == 0:
                save(step, "rank0.pt")
                pf.upload_checkpoint(folder / "rank0.pt")
            dist.barrier()
        elif step <= 6:
            save(step, f"shard-{rank}.pt")
            pf.upload_checkpoint(folder / f"shard-{rank}.pt")
        elif step <= 9:
            if rank == world - 1:
                save(step, "last.pt")
                pf.upload_checkpoint(folder / "last.pt")
        elif step < total:
            save(step, "checkpoint.pt")
            pf.upload_checkpoint()
        else:
            while not args.gate.exists():
                time.sleep(0.05)
dist.destroy_process_group()
