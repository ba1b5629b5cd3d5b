"""A script that attaches itself: counts, reports each step, saves every tenth step."""

import argparse
import os
import time
from pathlib import Path

import periflow_sdk as pf

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--wait-for", type=Path, help="hold before the last step until this exists")
parser.add_argument("--enough", type=int, help="is done early, after this step")
parser.add_argument("--until-told", action="store_true", help="leave the loop at should_stop()")
args = parser.parse_args()

pf.init(total_train_steps=args.steps, attach=True, config={"lr": 0.1})
print("pid", os.getpid(), flush=True)
folder = Path("checkpoints")
folder.mkdir(exist_ok=True)
for step in range(1, args.steps + 1):
    while step == args.steps and args.wait_for and not args.wait_for.exists():
        time.sleep(0.02)
    with pf.train_step():
        pf.metric({"value": step * 0.5})
    if args.until_told:
        time.sleep(0.05)
    if step % 10 == 0 and pf.status().rank == 0:
        (folder / "state.txt").write_text(f"{step}\n" * 100)
        pf.upload_checkpoint()
    if pf.should_stop() or step == args.enough:
        break
pf.finish(early=args.enough is not None)
