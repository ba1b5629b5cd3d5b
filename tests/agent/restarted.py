"""Two ranks coupled by an all-reduce; rank 1 fails once, and the launcher starts both again."""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

import periflow_sdk as pf

parser = argparse.ArgumentParser()
parser.add_argument("--once", type=Path, required=True, help="made when rank 1 has failed")
parser.add_argument("--format", choices=["torch", "dcp"], default="torch")
parser.add_argument("--apart", action="store_true", help="slow steps without an all-reduce")
args = parser.parse_args()
sys.stdout.reconfigure(write_through=False, line_buffering=True)  # ranks share one pipe

torch.set_num_threads(1)
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
# A store of its own for each start: in the launcher's, gloo finds addresses of ended ranks.
store = f"file://{args.once}-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
path = pf.latest_checkpoint()
pf.init(total_train_steps=40)
state = {"weight": torch.zeros(300_000)}
if path is not None and args.format == "torch":
    state = torch.load(path, weights_only=True)
elif path is not None:
    dcp.load(state, checkpoint_id=path)
print(f"rank {rank} begins at {pf.current_step()} with {state['weight'][0]:g}", flush=True)
for step in range(pf.current_step() + 1, 41):
    with pf.train_step():
        if step == 25 and rank == 1 and not args.once.exists():
            args.once.touch()
            raise RuntimeError("a rank fails")
        gradient = torch.ones(1)
        if args.apart:
            time.sleep(0.1)
        else:
            dist.all_reduce(gradient)
            gradient /= world
        state["weight"] += gradient
        pf.metric({"weight": state["weight"][0]})
    if step % 10 == 0 and (rank == 0 or args.format == "dcp"):
        pf.save_checkpoint(state, f"step-{step}", format=args.format)
pf.finish()
dist.destroy_process_group()
