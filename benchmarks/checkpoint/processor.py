"""Processor seconds that a checkpoint costs beside the training: worker and server, by part.

    python benchmarks/checkpoint/processor.py [--rounds 5] [--megabytes 500] [--folder DIR]

Processor time can be measured on a busy machine, unlike the time that training loses to it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import torch
from run import server, sign_up

from periflow_sdk._memory_stage import WORKER_LOCK, MemoryStage
from periflow_sdk.agent.memory import MemoryWriter
from periflow_sdk.api.client import ApiClient
from periflow_sdk.snapshots import upload_files
from periflow_sdk.snapshots.transfer import Tuning

TENSORS = 50
PARTS = ("file from memory", "upload, gentle", "upload, full speed", "server, gentle")


def measure(
    client: ApiClient, control_plane: psutil.Process, folder: Path, rounds: int, size: int
) -> dict[str, list[float]]:
    """Seconds of each part, a round each: the state becomes a file, which is sent both ways."""
    organization = client.create_organization("bench").id
    projects = [client.create_project(organization, name).id for name in ("gentle", "full")]
    state = {f"layer{n}": torch.randn(size // 4 // TENSORS) for n in range(TENSORS)}
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        run_dir, base = Path(name), folder / "ckpt"
        (run_dir / "rank-0").mkdir()
        stage = MemoryStage(run_dir / "rank-0", run_dir / WORKER_LOCK)
        for number in range(rounds):
            for tensor in state.values():
                tensor.add_(1e-3)
            staged = base / ".periflow" / f"{number:032x}"
            staged.mkdir(parents=True)
            stage.take(state, staged.name, base / "c.pt", "c.pt")
            files = {"c.pt": staged / "c.pt"}
            found["file from memory"].append(spent(MemoryWriter(base, run_dir).finish))
            before = sum(control_plane.cpu_times()[:2])
            send = partial(upload_files, client, files=files)
            gentle = Tuning(is_gentle=True)
            found["upload, gentle"].append(spent(partial(send, project=projects[0], tuning=gentle)))
            found["server, gentle"].append(sum(control_plane.cpu_times()[:2]) - before)
            found["upload, full speed"].append(spent(partial(send, project=projects[1])))
            shutil.rmtree(staged)
    return found


def spent(work: Callable[[], object]) -> float:
    """Processor seconds of this process."""
    before = os.times()
    work()
    after = os.times()
    return after.user + after.system - before.user - before.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        home = Path(name) / "home"
        with server(home) as url, sign_up(url, home) as client:
            pid = json.loads((home / "server/server.json").read_text())["pid"]
            size = options.megabytes * 1_000_000
            found = measure(client, psutil.Process(pid), Path(name), options.rounds, size)
    print("| part | processor seconds (median) | range |\n| --- | --- | --- |")
    for part, seconds in found.items():
        spread = f"{min(seconds):.2f}-{max(seconds):.2f}"
        print(f"| {part} | {statistics.median(seconds):.2f} | {spread} |")


if __name__ == "__main__":
    main()
