"""A rank without torch: it counts, saves when it has to, and leaves when it is told."""

import argparse
import os
import signal
import struct
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
parser.add_argument("--never-stops", action="store_true", help="saves when told, and exits itself")
parser.add_argument("--leaves-before", action="store_true", help="leaves a step before the save")
parser.add_argument("--enough", type=int, help="is done early, after this step")
parser.add_argument("--says-early", action="store_true", help="whenever it leaves its loop")
parser.add_argument("--raises-at", type=int, help="rank 1 fails at this step")
parser.add_argument("--lingers", action="store_true", help="does not end after finish()")
parser.add_argument("--listens", action="store_true", help="says when it has a SIGTERM")
parser.add_argument("--only-rank-0", action="store_true", help="the others do not save")
parser.add_argument("--exit-code", type=int, default=0)
args = parser.parse_args()
sys.stdout.reconfigure(write_through=False, line_buffering=True)  # ranks share one pipe

rank = int(os.environ.get("RANK", "0"))
if args.listens:  # a handler that was there before is called for every signal that comes
    signal.signal(signal.SIGTERM, lambda *_: print(f"rank {rank} has had a SIGTERM", flush=True))
folder = Path(os.environ["CKPT_DIR"])


def committed_step() -> int:
    """The step that the agent has committed, if it does so within half a second."""
    control = Path(os.environ["PERIFLOW_RUN_DIR"], f"rank-{rank}", "control")
    end = time.monotonic() + 0.5
    while not (step := struct.unpack_from("<q", control.read_bytes(), 16)[0]):
        if time.monotonic() > end:
            break
        time.sleep(0.005)
    return int(step)


while args.late_until and not args.late_until.exists():
    time.sleep(0.01)
pf.init(total_train_steps=args.steps)
for step in range(pf.current_step() + 1, args.steps + 1):
    with pf.train_step():
        time.sleep(args.seconds)
        if args.leaves_before and pf.deadline() and (settled := committed_step()) > step:
            print(f"rank {rank} leaves at step {step} before {settled}", flush=True)
            break
    pf.metric({"value": step})
    if step == 1 or step % 100 == 0:
        print(f"rank {rank} pid {os.getpid()} at step {step}", flush=True)
    if rank == 1 and step == args.raises_at:
        raise RuntimeError("a rank fails")
    if step == args.enough:
        pf.finish(early=rank == 0)  # one rank's word is enough
        break
    if args.deaf:
        continue
    if pf.is_emergency_save() and not (args.only_rank_0 and rank):
        print(f"rank {rank} saves at step {step}", flush=True)
        time.sleep(args.save_seconds)
        (folder / f"rank-{rank}.txt").write_text(str(step))
        pf.upload_checkpoint(folder / f"rank-{rank}.txt")
        if args.never_stops:
            break
    if pf.should_stop():
        print(f"rank {rank} left at step {step}", flush=True)
        pf.finish(early=args.says_early)
        while args.lingers:
            time.sleep(0.1)
        sys.exit(args.exit_code)
