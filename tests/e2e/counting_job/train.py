"""A job without torch: counts, reports each step, saves in place every tenth step."""

import argparse
import os
import time
from pathlib import Path

import periflow_sdk as pf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--seconds", type=float, default=0.02, help="duration of a step")
parser.add_argument("--wait-for", type=Path, help="hold before the last step until this exists")
args = parser.parse_args()

folder = Path(os.environ["CKPT_DIR"])
pf.init(total_train_steps=args.steps)
print(f"training pid {os.getpid()}")
for step in range(pf.current_step() + 1, args.steps + 1):
    if step == args.steps and args.wait_for:
        while not args.wait_for.exists():
            time.sleep(0.02)
    with pf.train_step():
        time.sleep(args.seconds)
        pf.metric({"value": step * 0.5, "bad": float("nan")})
    print(f"step {step} of {args.steps}")
    if step % 10 == 0:
        (folder / "state.txt").write_text(f"{step}\n" * 1000)
        pf.upload_checkpoint()
print("done counting")
