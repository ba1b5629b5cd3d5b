"""Measure authenticated requests a second: `whoami`, and a page of a list of 10,000 jobs.

    .venv/bin/python benchmarks/server/rates.py

On SQLite, on PostgreSQL, and on PostgreSQL with two server processes. The client is a process that
writes prepared requests and reads whole answers, each of some connections one at a time; its own
limit is seen in the figures of `health`, which asks no database. All are taken by turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from run import logged_in, running_server

from periflow_sdk.api.jobfile import JobSpec
from periflow_server.db.base import Database
from periflow_server.db.job import Job
from periflow_server.db.schema import import_tables

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
from postgresql_cluster import PostgresqlCluster, programs

JOBS = 10_000
CONNECTIONS = 8
SECONDS = 2.0
ROUNDS = 5
SECRET_KEY = "one-key-for-every-server-of-the-benchmark"


@dataclass(frozen=True)
class Subject:
    """Some servers on one database, and what is asked of them."""

    name: str
    urls: list[str]
    pids: list[int]
    token: str
    project: str

    def cpu_seconds(self) -> float:
        """What the servers have computed so far, their database apart."""
        times = [psutil.Process(pid).cpu_times() for pid in self.pids]
        return sum(each.user + each.system for each in times)

    def paths(self) -> dict[str, str]:
        jobs = f"/api/v1/projects/{self.project}/jobs?limit=100"
        return {
            "health": "/api/v1/health",
            "whoami": "/api/v1/users/me",
            "job list": jobs,
            "job list, the middle": f"{jobs}&cursor={JOBS // 2}",
        }


async def _ask(url: str, request: bytes, until: float, took: list[float]) -> None:
    """Send the request again and again on one connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    while (began := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode())
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        took.append(time.perf_counter() - began)
    writer.close()


async def _load(urls: list[str], path: str, token: str) -> list[float]:
    lines = (f"GET {path} HTTP/1.1", "Host: bench", f"Authorization: Bearer {token}", "", "")
    request = "\r\n".join(lines).encode()
    took: list[float] = []
    until = time.perf_counter() + SECONDS
    chosen = [urls[number % len(urls)] for number in range(CONNECTIONS)]
    await asyncio.gather(*(_ask(url, request, until, took) for url in chosen))
    return took


def _measure(urls: list[str], path: str, token: str) -> list[float]:
    return asyncio.run(_load(urls, path, token))


def add_jobs(database_url: str, project: str, user: str) -> None:
    """Ended jobs, as a project has them after some years."""
    import_tables()
    docker = {"image": "none", "command": "python train.py"}
    file = {"vm": "local-cpu", "num_devices": 1, "job_setting": {"docker": docker}}
    spec = JobSpec.model_validate(file).model_dump(mode="json")
    database = Database(database_url)
    with database.write() as session:
        for number in range(1, JOBS + 1):
            session.add(
                Job(
                    project_id=project,
                    number=number,
                    name=f"train-{number}",
                    status="success",
                    vm="local-cpu",
                    device="cpu",
                    num_devices=1,
                    spec=spec,
                    shell={},
                    created_by=user,
                )
            )
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
    database.close()


def prepare(name: str, homes: list[Path], urls: list[str], database_url: str) -> Subject:
    """A user with a project of so many jobs."""
    with logged_in(urls[0], homes) as client:
        organization = client.create_organization("bench").id
        project = client.create_project(organization, "bench").id
        add_jobs(database_url, project, client.me().id)
        token = client._token()
    assert token is not None
    notes = [json.loads((home / "server" / "server.json").read_text()) for home in homes]
    return Subject(name, urls, [note["pid"] for note in notes], token, project)


@contextlib.contextmanager
def subjects(folder: Path) -> Iterator[list[Subject]]:
    """All servers, running."""
    with contextlib.ExitStack() as stack:
        home = folder / "sqlite"
        url = stack.enter_context(running_server(home))
        found = [prepare("SQLite", [home], [url], f"sqlite:///{home}/server/periflow.db")]
        bin_dir = programs()
        if bin_dir is None:
            print("PostgreSQL is not installed: measured on SQLite only", file=sys.stderr)
            yield found
            return
        cluster = PostgresqlCluster(bin_dir)
        stack.callback(cluster.close)
        for name, count in (("PostgreSQL", 1), ("PostgreSQL, two servers", 2)):
            database_url = cluster.create()
            variables = {
                "PERIFLOW_SERVER_DATABASE_URL": database_url,
                "PERIFLOW_SERVER_STORAGE_URL": f"file://{folder}/store-{count}",
                "PERIFLOW_SERVER_SECRET_KEY": SECRET_KEY,
                "PERIFLOW_SERVER_ORG_APPROVAL": "auto",
            }
            homes = [folder / f"postgresql-{count}-{number}" for number in range(count)]
            urls = [stack.enter_context(running_server(home, variables)) for home in homes]
            found.append(prepare(name, homes, urls, database_url))
        yield found


def report() -> None:
    """Measure, and print a line for each."""
    rates: dict[tuple[str, str], list[float]] = {}
    waits: dict[tuple[str, str], list[float]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="periflow-bench-") as folder,
        subjects(Path(folder)) as found,
        multiprocessing.get_context("spawn").Pool(1) as client,
    ):
        for _ in range(ROUNDS):
            for subject in found:
                for what, path in subject.paths().items():
                    before = subject.cpu_seconds()
                    took = client.apply(_measure, (subject.urls, path, subject.token))
                    spent = (subject.cpu_seconds() - before) / len(took)
                    rates.setdefault((subject.name, what), []).append(len(took) / SECONDS)
                    waits.setdefault((subject.name, what), []).extend(took)
                    costs.setdefault((subject.name, what), []).append(spent)
    print(f"{'':48}{'requests/s':>11}{'median ms':>11}{'p99 ms':>9}{'CPU ms':>9}")
    for (name, what), rate in rates.items():
        took = sorted(waits[name, what])
        middle, slow = took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000
        cost = statistics.median(costs[name, what]) * 1000
        figures = f"{statistics.median(rate):>11,.0f}{middle:>11.1f}{slow:>9.1f}{cost:>9.2f}"
        print(f"{name:26}{what:22}{figures}")


if __name__ == "__main__":
    report()
