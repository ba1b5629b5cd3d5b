"""Ranks without torch that each save a file of their own every few steps."""

import argparse
import os
import sys
import time
from pathlib import Path

import periflow_sdk as pf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=6)
parser.add_argument("--every", type=int, default=3)
parser.add_argument("--only", type=int, help="this rank alone saves")
parser.add_argument("--wait-at", type=int, help="step at whose beginning to wait")
parser.add_argument("--wait-rank", type=int, help="the rank that waits; all if not given")
parser.add_argument("--until", type=Path, help="what it waits for")
parser.add_argument("--leave-at", type=int, help="exit with 75 after this step, the first time")
args = parser.parse_args()
sys.stdout.reconfigure(write_through=False, line_buffering=True)  # ranks share one pipe

pf.init(total_train_steps=args.steps)
rank = pf.status().rank
folder = Path(os.environ["CKPT_DIR"])
begin = pf.current_step()
found = sorted(path.name for path in folder.glob("rank-*.txt"))
print(f"pid of rank {rank}: {os.getpid()}", flush=True)
print(f"rank {rank} begins at {begin} with {found}", flush=True)
for step in range(begin + 1, args.steps + 1):
    if step == args.wait_at and args.wait_rank in (None, rank):
        print(f"rank {rank} waits", flush=True)
        while not args.until.exists():
            time.sleep(0.02)
    with pf.train_step():
        time.sleep(0.02)
    if step % args.every == 0 and args.only in (None, rank):
        path = folder / f"rank-{rank}.txt"
        path.write_text(f"{rank} at {step}")
        pf.upload_checkpoint(path)
    if step == args.leave_at and begin < step:
        pf.finish()
        os._exit(75)
