"""How long a preemption takes: notice, durable, first step of the next attempt.

    python benchmarks/preemption/run.py [--rounds 5]

A real embedded server, the local executor, one rank with 50 MB of state. Each round is one
`pf job preempt` of the same job; the control is `torch.save` and a copy of the same state.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
JOB = """
vm: local-cpu
num_devices: 1
job_setting:
  type: custom
  docker:
    image: none
    command: exec python /workspace/preemption/train.py
checkpoint:
  output_checkpoint_dir: /workspace/ckpt
"""


class Desk:
    """A home with a server, a user and a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if "PERIFLOW" not in name}
        self.environment = {
            **kept,
            "PERIFLOW_HOME": str(folder / "home"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        who = ("--username", "ada", "--name", "Ada", "--email", "ada@example.com")
        self.pf("signup", *who, "--password-stdin", stdin="correct horse battery")
        self.pf("org", "create", "bench")
        self.pf("project", "create", "bench")

    def pf(self, *words: object, stdin: str = "") -> str:
        done = subprocess.run(
            [str(BIN / "pf"), *map(str, words)],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def json(self, *words: object) -> Any:
        return json.loads(self.pf(*words, "--json"))


def wait(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise SystemExit("it took too long")
        time.sleep(0.1)
    return value


def control(folder: Path) -> float:
    """Seconds that the save itself takes: torch.save of the same state, and a copy of the file."""
    import torch

    state = {"weights": torch.rand(50_000_000 // 4)}
    begun = time.perf_counter()
    torch.save(state, folder / "control.pt")
    shutil.copyfile(folder / "control.pt", folder / "copy.pt")
    return time.perf_counter() - begun


def words_of(desk: Desk, number: int, name: str) -> list[list[float]]:
    lines = desk.pf("job", "log", number, "-n", 10_000).splitlines()
    return [[float(word) for word in line.split()[1:]] for line in lines if line.startswith(name)]


def measure(desk: Desk, number: int, round_number: int) -> dict[str, float]:
    """One preemption of the running job, in seconds from the notice."""
    wait(lambda: len(words_of(desk, number, "first")) == round_number)
    time.sleep(2)
    desk.pf("job", "preempt", number)
    noticed = _notice_of(desk, number)
    wait(lambda: len(words_of(desk, number, "first")) == round_number + 1)
    job = desk.json("job", "view", number)
    begun, saved = words_of(desk, number, "saved")[-1]
    return {
        "save begins": begun - noticed,
        "save call": saved - begun,
        "durable": job["notice_to_durable_seconds"],
        "next attempt's first step": words_of(desk, number, "first")[-1][0] - noticed,
    }


def _notice_of(desk: Desk, number: int) -> float:
    events = desk.json("job", "view", number)["events"]
    moment = [event["time"] for event in events if event["kind"] == "notice"][-1]
    return datetime.fromisoformat(moment).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        desk = Desk(folder)
        (folder / "job.yml").write_text(JOB)
        number = desk.json("job", "run", "-f", folder / "job.yml", "-d", HERE)["number"]
        try:
            found = []
            for n in range(1, rounds + 1):
                found.append({"control": control(folder), **measure(desk, number, n)})
        finally:
            desk.pf("job", "stop", number, "-y", "--now")
            wait(lambda: desk.json("job", "view", number)["status"] == "stopped")
            desk.pf("server", "stop")
    print("| seconds from the notice | median | range |\n| --- | --- | --- |")
    for what in found[0]:
        values = [each[what] for each in found]
        middle = statistics.median(values)
        print(f"| {what} | {middle:.2f} | {min(values):.2f}-{max(values):.2f} |")


if __name__ == "__main__":
    main()
