"""Ranks coupled by an all-reduce: a regression whose losses tell if a step was lost or repeated."""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

import periflow_sdk as pf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--seconds", type=float, default=0.05, help="duration of a step")
parser.add_argument("--record", type=Path, help="local log of the losses")
parser.add_argument("--slow-rank", type=int, default=-1, help="this rank takes three times as long")
parser.add_argument("--skew", type=float, default=0.0, help="odd ranks are so late in some steps")
parser.add_argument("--evaluate", action="store_true", help="rank 0 evaluates now and then")
parser.add_argument("--accumulate", type=int, default=1, help="batches a step, one all-reduce")
parser.add_argument("--ahead", action="store_true", help="couple at the beginning of a step")
parser.add_argument("--fail-at", type=int, help="rank 1 raises at this step")
parser.add_argument("--hurry", type=Path, help="steps take no time once this exists")
args = parser.parse_args()
sys.stdout.reconfigure(write_through=False, line_buffering=True)  # ranks share one pipe

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
pf.init(total_train_steps=args.steps, local_log_name=args.record)
weight = torch.zeros(8)
if path := pf.latest_checkpoint():
    weight = torch.load(path, weights_only=True)["weight"]
print(f"rank {rank} pid {os.getpid()} begins at {pf.current_step()}", flush=True)


def gradient_of(step: int) -> torch.Tensor:
    """The gradient of this rank's batches, and behind it their loss."""
    total = torch.zeros(9)
    for batch in range(args.accumulate):
        seed = (step * 100 + batch) * 100 + rank
        x = torch.randn(32, 8, generator=torch.Generator().manual_seed(seed))
        error = x @ weight - x.sum(1)
        total += torch.cat([x.T @ error / 32, (error**2).mean()[None]])
        if not (args.hurry and args.hurry.exists()):
            time.sleep(args.seconds / args.accumulate * (3 if rank == args.slow_rank else 1))
    return total / args.accumulate


for step in range(pf.current_step() + 1, args.steps + 1):
    with pf.train_step():
        if args.ahead:
            dist.barrier()
        if args.skew and rank % 2 and step % 10 == 0:
            time.sleep(args.skew)
        if rank == 1 and step == args.fail_at:
            raise RuntimeError("a rank fails")
        both = gradient_of(step)
        if not args.ahead or step % 2:
            dist.all_reduce(both)
            both /= world
            weight = weight - 0.05 * both[:8]
        else:
            dist.broadcast(both, 0)
    pf.metric({"loss": both[8]})
    if rank == 0:
        print(f"did {step}", flush=True)
    if args.evaluate and rank == 0 and step % 20 == 0:
        time.sleep(0.5)
    if pf.is_emergency_save():
        print(f"rank {rank} saves at step {step}", flush=True)
        if rank == 0:
            pf.save_checkpoint({"weight": weight})
    if pf.should_stop():
        print(f"rank {rank} left at step {step}", flush=True)
        break
dist.destroy_process_group()
