"""What a checkpoint costs training: a real job of a real server, upload included.

    python benchmarks/checkpoint/run.py [--rounds 5] [--blocks 5] [--megabytes 500] [--folder DIR]

The ways take turns in each round, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.jobfile import JobSpec

PASSWORD = "a long enough password"
TRAINING = Path(__file__).with_name("training.py")
JOB_SECONDS = 900.0


@contextlib.contextmanager
def server(home: Path) -> Iterator[str]:
    """A control plane of its own; gives its address."""
    home.mkdir(mode=0o700)
    command = [sys.executable, "-m", "periflow_server", "serve", "--embedded", "--home", str(home)]
    with (home / "output.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "PERIFLOW_HOME": str(home)}
        )
    try:
        ready = home / "server/server.json"
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield json.loads(ready.read_text())["url"]
    finally:
        process.terminate()
        process.wait(10)


def sign_up(url: str, home: Path) -> ApiClient:
    """The client of a new user."""
    with ApiClient(url) as client:
        client.sign_up(
            m.SignupRequest(username="bench", name="B", email="b@example.com", password=PASSWORD)
        )
        (mail,) = (home / "server/outbox").glob("*.eml")
        fields = dict(line.split(": ", 1) for line in mail.read_text().splitlines() if ": " in line)
        code = fields["X-PeriFlow-Code"]
        confirmed = client.confirm_signup(m.SignupConfirmation(username="bench", code=code))
    return ApiClient(url, confirmed.access_token)


def run_job(client: ApiClient, arguments: list[int]) -> dict[str, Any]:
    """Run the training as a job; what it measured."""
    organization = client.create_organization("bench").id
    project = client.create_project(organization, "bench").id
    words = " ".join(str(number) for number in arguments)
    spec = {
        "vm": "local-cpu",
        "num_devices": 1,
        "job_setting": {
            "docker": {"image": "none", "command": f"exec {sys.executable} {TRAINING} {words}"}
        },
        "checkpoint": {"output_checkpoint_dir": "/workspace/ckpt"},
        "env": {"OMP_NUM_THREADS": "1"},
    }
    shell = m.ShellEnvironment(python=sys.executable, variables={"PATH": os.environ["PATH"]})
    body = m.JobCreate(spec=JobSpec.model_validate(spec), workspace=None, shell=shell)
    job = client.create_job(project, body)
    deadline = time.monotonic() + JOB_SECONDS
    while client.job(project, job.number).status not in ("success", "failed", "stopped"):
        if time.monotonic() > deadline:
            raise SystemExit("the job takes too long")
        time.sleep(0.5)
    lines = [line.text for line in client.job_log(project, job.number).lines]
    for line in lines:
        if line.startswith("RESULT "):
            found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return found
    raise SystemExit("\n".join(lines))


def show(found: dict[str, Any], megabytes: int) -> None:
    plain = statistics.median(found["stall"]["plain copy"])
    print(f"Stall of the training thread, {megabytes} MB:\n")
    print("| way | ms (median) | range | against the copy |")
    print("| --- | --- | --- | --- |")
    for way, seconds in found["stall"].items():
        middle = statistics.median(seconds)
        spread = f"{1000 * min(seconds):.0f}-{1000 * max(seconds):.0f}"
        print(f"| {way} | {1000 * middle:.1f} | {spread} | {middle / plain:.2f} |")
    show_loss(found)


def show_loss(found: dict[str, Any]) -> None:
    worst, lost = found["worst step"], found["lost"]
    print(f"\n{len(lost)} blocks of {found['steps']} steps with one checkpoint, each between two")
    print("without:\n")
    print("| training time per checkpoint, upload included | s (median) | mean ± error | range |")
    print("| --- | --- | --- | --- |")
    for name, seconds in (("lost", lost), ("the machine by itself", found["noise"])):
        error = statistics.stdev(seconds) / len(seconds) ** 0.5 if len(seconds) > 1 else 0.0
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        middle, mean = statistics.median(seconds), statistics.mean(seconds)
        print(f"| {name} | {middle:.3f} | {mean:.3f} ± {error:.3f} | {spread} |")
    print()
    for name in ("without", "with"):
        print(f"- longest step {name}, median: {1000 * statistics.median(worst[name]):.1f} ms")
    print(f"- committed before the block ended: {found['uploaded within']} of {len(lost)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        home = Path(name) / "home"
        with server(home) as url, sign_up(url, home) as client:
            arguments = [options.rounds, options.megabytes * 1_000_000, options.blocks]
            found = run_job(client, arguments)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(found, options.megabytes)


if __name__ == "__main__":
    main()
