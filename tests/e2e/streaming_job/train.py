"""Ranks that train from a bucket, and write down which samples they have seen; run by torchrun.

``train.py FOLDER``: each rank appends ``step key key ...`` to ``FOLDER/seen-RANK``. After its first
epoch the training waits for ``FOLDER/gate``. Steps take no time once ``FOLDER/hurry`` exists.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from torchdata.stateful_dataloader import StatefulDataLoader

import periflow_sdk as pf
from periflow_sdk.data import stream

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--batch-size", type=int, default=2)
parser.add_argument("--workers", type=int, default=1)
parser.add_argument("--save-every", type=int, default=10)
parser.add_argument("--compare", type=Path, help="a folder of the same files, read in the end")
args = parser.parse_args()
sys.stdout.reconfigure(write_through=False, line_buffering=True)  # ranks share one pipe


def key(sample):
    return sample["__key__"]


def keep_pace(step):
    """Take no step before the other rank is about to, as an all-reduce would do.

    Not by gloo: ranks that torchrun starts again sometimes look for those that were there before.
    """
    own, other = (args.folder / f"pace-{each}" for each in (rank, 1 - rank))
    own.with_suffix(".new").write_text(str(step))
    own.with_suffix(".new").replace(own)
    while not other.exists() or int(other.read_text()) < step:
        time.sleep(0.001)


def loader_of(dataset):
    samples = stream(dataset, shuffle=True, seed=3, transform=key)
    batches = samples.batches(args.batch_size)
    options = {"num_workers": args.workers, "persistent_workers": True, "collate_fn": list}
    return StatefulDataLoader(samples, batch_sampler=batches, **options)


torch.set_num_threads(1)
rank = int(os.environ["RANK"])
loader = loader_of("pictures")
each = len(loader)
pf.init(total_train_steps=2 * each)
if path := pf.latest_checkpoint():
    loader.load_state_dict(torch.load(path)["loader"])
print(f"rank {rank} pid {os.getpid()} begins at {pf.current_step()}", flush=True)
seen = (args.folder / f"seen-{rank}").open("a")
while pf.current_step() < 2 * each:
    start = time.perf_counter()
    for keys in loader:
        with pf.train_step():
            keep_pace(pf.current_step())
            print(pf.current_step(), *keys, file=seen, flush=True)
            if not (args.folder / "hurry").exists():
                time.sleep(0.1)
        if rank == 0:
            print(f"did {pf.current_step()}", flush=True)
        if rank == 0 and (pf.is_emergency_save() or pf.current_step() % args.save_every == 0):
            pf.save_checkpoint({"loader": loader.state_dict()})
        if pf.should_stop():
            sys.exit(0)
    if rank == 0:
        print(f"{time.perf_counter() - start:.2f} seconds", flush=True)
    while pf.current_step() == each and not (args.folder / "gate").exists():
        time.sleep(0.05)
if args.compare:
    loader = loader_of(args.compare)
    for epoch in range(2, 4):  # the first one fills the page cache, as above
        start = time.perf_counter()
        for step, _ in enumerate(loader, epoch * each + 1):
            keep_pace(step)
    if rank == 0:
        print(f"local: {time.perf_counter() - start:.2f} seconds", flush=True)
