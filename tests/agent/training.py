"""A rank without torch: it counts, saves when it has to, and leaves when it is told."""

import argparse
import os
import sys
import time
from pathlib import Path

import periflow_sdk as pf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100_000)
parser.add_argument("--seconds", type=float, default=0.02)
parser.add_argument("--save-seconds", type=float, default=0.0)
parser.add_argument("--deaf", action="store_true", help="never asks whether to stop")
parser.add_argument("--late-until", type=Path, help="starts no step until this exists")
parser.add_argument("--exit-code", type=int, default=0)
args = parser.parse_args()

rank = int(os.environ.get("RANK", "0"))
folder = Path(os.environ["CKPT_DIR"])
while args.late_until and not args.late_until.exists():
    time.sleep(0.01)
pf.init(total_train_steps=args.steps)
for step in range(pf.current_step() + 1, args.steps + 1):
    with pf.train_step():
        time.sleep(args.seconds)
    pf.metric({"value": step})
    if step == 1 or step % 100 == 0:
        print(f"rank {rank} pid {os.getpid()} at step {step}", flush=True)
    if args.deaf:
        continue
    if pf.is_emergency_save():
        print(f"rank {rank} saves at step {step}", flush=True)
        time.sleep(args.save_seconds)
        (folder / f"rank-{rank}.txt").write_text(str(step))
        pf.upload_checkpoint(folder / f"rank-{rank}.txt")
    if pf.should_stop():
        print(f"rank {rank} left at step {step}", flush=True)
        sys.exit(args.exit_code)
