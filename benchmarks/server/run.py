"""Measure the control plane over HTTP: points taken a second, and a long series for a chart.
Then requests a second, by `rates.py`.

    .venv/bin/python benchmarks/server/run.py

A real server process on a free port in a temporary home; this process plays the agent. Each
figure is a median; the bare limit (SQLite rows, a plain sum over the values) is measured in the
same run, so that ratios mean something on a busy machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.jobfile import JobSpec

POINTS = 1_000_000
BATCH_STEPS = 10_000
CHART_POINTS = 1000
REPETITIONS = 7


@contextlib.contextmanager
def running_server(home: Path, variables: dict[str, str] | None = None) -> Iterator[str]:
    """A server without agents, an embedded one if no variables are given; its address."""
    options = ["--port", "0"] if variables else ["--embedded", "--home", str(home)]
    home.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "periflow_server", "serve", *options],
        stderr=(home / "server.log").open("wb"),
        env={
            **os.environ,
            "PERIFLOW_HOME": str(home),
            "PERIFLOW_SERVER_DATA_DIR": str(home / "server"),
            "PERIFLOW_SERVER_EXECUTOR": "none",
            **(variables or {}),
        },
    )
    try:
        ready = home / "server" / "server.json"
        while not ready.exists():
            if process.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.02)
        yield json.loads(ready.read_text())["url"]
    finally:
        process.terminate()
        process.wait(10)


def logged_in(url: str, homes: Sequence[Path]) -> ApiClient:
    """A client of a new user; his mail is in the outbox of one of the servers."""
    with ApiClient(url) as client:
        client.sign_up(
            m.SignupRequest(
                username="bench",
                name="Bench",
                email="bench@example.com",
                password="correct horse battery",
            )
        )
        mail = None
        while mail is None:
            boxes = [home / "server" / "outbox" for home in homes]
            mail = next((path for box in boxes for path in box.glob("*.eml")), None)
        code = next(
            line.partition(": ")[2]
            for line in mail.read_text().splitlines()
            if line.startswith("X-PeriFlow")
        )
        session = client.confirm_signup(m.SignupConfirmation(username="bench", code=code))
    return ApiClient(url, session.access_token)


def running_job(client: ApiClient, project: str, home: Path) -> ApiClient:
    """A job that runs, and the client of its agent."""
    spec = JobSpec.model_validate(
        {
            "vm": "local-cpu",
            "num_devices": 1,
            "job_setting": {"docker": {"image": "none", "command": "true"}},
        }
    )
    job = client.create_job(project, m.JobCreate(spec=spec))
    token = home / "server" / "jobs" / job.id / "1" / "0" / "token"
    while not token.exists():
        time.sleep(0.02)
    while client.job(project, job.number).status == "waiting":
        time.sleep(0.02)
    return ApiClient(client.url, token.read_text())


def journal(start: int) -> bytes:
    """Lines as the SDK writes them: two values and an end a step."""
    lines = []
    for step in range(start, start + BATCH_STEPS):
        values = {"loss": random.random(), "lr": 0.001}
        lines.append(json.dumps({"t": "metric", "s": step, "w": 1.7e9 + step, "m": values}))
        lines.append(json.dumps({"t": "step", "s": step, "w": 1.7e9 + step, "d": 0.0123}))
    return "".join(f"{line}\n" for line in lines).encode()


def taken_a_second(agent: ApiClient) -> list[float]:
    """Points a second of each batch (two points a step)."""
    rates, offset = [], 0
    for start in range(1, POINTS + 1, BATCH_STEPS):
        lines = journal(start)
        began = time.perf_counter()
        offset = agent.ship_journal(0, "1-1", offset, lines)
        rates.append(2 * BATCH_STEPS / (time.perf_counter() - began))
    return rates


def rows_a_second(folder: Path) -> float:
    """The limit: the same points as rows, in batches, straight into SQLite."""
    connection = sqlite3.connect(folder / "rows.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE points (step INTEGER, time REAL, value REAL)")
    rows = [(step, 1.7e9 + step, 0.5) for step in range(200_000)]
    began = time.perf_counter()
    for start in range(0, len(rows), 2 * BATCH_STEPS):
        with connection:
            batch = rows[start : start + 2 * BATCH_STEPS]
            connection.executemany("INSERT INTO points VALUES (?, ?, ?)", batch)
    return len(rows) / (time.perf_counter() - began)


def milliseconds(call: Callable[[], object]) -> list[float]:
    took = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1000)
    return took


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="periflow-bench-") as folder:
        home = Path(folder)
        with running_server(home) as url:
            client = logged_in(url, [home])
            organization = client.create_organization("bench").id
            project = client.create_project(organization, "bench").id
            agent = running_job(client, project, home)
            rates = taken_a_second(agent)
            print(f"points a second over HTTP      {statistics.median(rates):>12,.0f}")
            print(f"  slowest batch                {min(rates):>12,.0f}")
            print(f"rows a second, bare SQLite     {rows_a_second(home):>12,.0f}")
            small = milliseconds(lambda: client.metric_names(project, 1))
            print(f"list of metrics, ms            {statistics.median(small):>12.1f}")
            chart = milliseconds(
                lambda: client.metric_series(project, 1, "loss", max_points=CHART_POINTS)
            )
            print(f"chart of {POINTS:,} points, ms {statistics.median(chart):>12.1f}")
            print(f"  the first one                {chart[0]:>12.1f}")
            last = milliseconds(lambda: client.metric_series(project, 1, "loss", last=1000))
            print(f"last 1,000 points, ms          {statistics.median(last):>12.1f}")
            values = array("d", (random.random() for _ in range(POINTS)))
            bare = milliseconds(lambda: (min(values), max(values)))
            print(f"min and max of an array, ms    {statistics.median(bare):>12.1f}")
    import rates

    rates.report()


if __name__ == "__main__":
    main()
