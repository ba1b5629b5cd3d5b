"""A script that attaches itself and saves each of three steps; says where the states were."""

import argparse
import fcntl
import json
import os
import signal
import time
from pathlib import Path

import torch

import periflow_sdk as pf

parser = argparse.ArgumentParser()
parser.add_argument("--die", action="store_true", help="right after the last save")
args = parser.parse_args()

pf.init(total_train_steps=3, attach=True)
(about,) = (Path(os.environ["PERIFLOW_HOME"]) / "attached").glob("*/attached.json")
memory = Path(json.loads(about.read_text())["memory_dir"])


def is_served() -> bool:
    try:
        with (about.parent / "run" / "worker.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        pass
    except BlockingIOError:
        return True
    return False


while not is_served():
    time.sleep(0.01)
for step in range(1, 4):
    with pf.train_step():
        pf.save_checkpoint({"w": torch.full((500_000,), float(step))}, "m/model.pt")
    if step < 3:
        pf.latest_checkpoint()  # waits until this one is written
print("in memory", any((memory / "rank-0").glob("memory-*")), flush=True)
print("by training", pf.status().saves_by_training, flush=True)
if args.die:
    os.kill(os.getpid(), signal.SIGKILL)
