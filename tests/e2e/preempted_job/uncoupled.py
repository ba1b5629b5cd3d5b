"""A rank without torch and without a tie to the others: each value follows from the one before."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import periflow_sdk as pf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--seconds", type=float, default=0.05)
parser.add_argument("--swallow", action="store_true", help="a SIGTERM ends the loop, with code 0")
parser.add_argument("--hurry", type=Path, help="steps take no time once this exists")
args = parser.parse_args()
sys.stdout.reconfigure(write_through=False, line_buffering=True)  # ranks share one pipe

rank = int(os.environ["RANK"])
folder = Path(os.environ["CKPT_DIR"])
has_had_enough = False


def swallow(number: int, frame: object) -> None:
    global has_had_enough
    has_had_enough = True


pf.init(total_train_steps=args.steps)
if args.swallow:
    signal.signal(signal.SIGTERM, swallow)
value = rank
if found := pf.latest_checkpoint():
    value = int((found / f"rank-{rank}.txt" if found.is_dir() else found).read_text())
print(f"rank {rank} pid {os.getpid()} begins at {pf.current_step()}", flush=True)
for step in range(pf.current_step() + 1, args.steps + 1):
    with pf.train_step():
        if not (args.hurry and args.hurry.exists()):
            time.sleep(args.seconds)
        value = (1103515245 * value + 12345) % 2**31
    pf.metric({"value": value})
    if rank == 0:
        print(f"did {step}", flush=True)
    if has_had_enough:
        sys.exit(0)
    if pf.is_emergency_save():
        print(f"rank {rank} saves at step {step}", flush=True)
        (folder / f"rank-{rank}.txt").write_text(str(value))
        pf.upload_checkpoint(folder / f"rank-{rank}.txt")
    if pf.should_stop():
        print(f"rank {rank} left at step {step}", flush=True)
        sys.exit(0)
