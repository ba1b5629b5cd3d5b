"""Jobs on a server that starts no agents, and a scripted agent that speaks the real API."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from waiting import wait_until

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.errors import PeriFlowError


def job_spec(**changes: Any) -> JobSpec:
    """A job file's content."""
    document = {
        "name": "train",
        "vm": "local-cpu",
        "num_devices": 1,
        "job_setting": {"docker": {"image": "none", "command": "true"}},
        **changes,
    }
    return JobSpec.model_validate(document)


@dataclass
class Agent:
    """The agent of one node, played by a test."""

    api: ApiClient
    folder: Path
    offsets: dict[tuple[int, str], int] = field(default_factory=dict)
    printed: int = 0

    def register(self) -> m.Rendezvous:
        return self.api.register_agent(
            m.AgentRegister(hostname="here", address="127.0.0.1", port=29500, pid=1)
        )

    def beat(self, phase: Any = "running", **fields: Any) -> m.AgentOrders:
        return self.api.heartbeat(m.AgentHeartbeat(phase=phase, **fields))

    def journal(self, *records: Any, rank: int = 0, segment: str = "1-1") -> int:
        """Ship records (or raw lines) behind what was shipped of the segment before."""
        lines = b"".join(r if isinstance(r, bytes) else orjson.dumps(r) + b"\n" for r in records)
        offset = self.offsets.get((rank, segment), 0)
        self.offsets[rank, segment] = self.api.ship_journal(rank, segment, offset, lines)
        return self.offsets[rank, segment]

    def metrics(self, steps: range, value: Callable[[int], Any] = float, **place: Any) -> int:
        """Ship a loss and a finished step for each of the steps."""
        records = []
        for s in steps:
            records.append({"t": "metric", "s": s, "w": 1e9 + s, "m": {"loss": value(s)}})
            records.append({"t": "step", "s": s, "w": 1e9 + s, "d": 0.01})
        return self.journal(*records, **place)

    def print(self, text: str | bytes) -> int:
        data = text.encode() if isinstance(text, str) else text
        self.printed = self.api.ship_log(self.printed, data)
        return self.printed

    def checkpoint(self, step: int, snapshot_id: str, upload_id: str | None = None) -> m.Checkpoint:
        """Announce a checkpoint and commit it."""
        upload_id = upload_id or f"upload-{step}"
        self.api.start_checkpoint(
            m.CheckpointStart(upload_id=upload_id, step=step, save_type="NORMAL", size=10)
        )
        return self.api.commit_checkpoint(upload_id, m.CheckpointCommit(snapshot_id=snapshot_id))

    def finish(self, outcome: Any = "exited", exit_code: int | None = 0, **fields: Any) -> None:
        self.api.finish_attempt(m.AgentFinish(outcome=outcome, exit_code=exit_code, **fields))


@dataclass
class Desk:
    """A user of a server that starts no agents, and the agents of his jobs."""

    server: Any
    api: Any

    wait_for = staticmethod(wait_until)

    @property
    def project(self) -> str:
        return str(self.api.project)

    def submit(self, **changes: Any) -> m.Job:
        body = m.JobCreate(spec=job_spec(**changes))
        created: m.Job = self.api.create_job(self.project, body)
        return created

    def job(self, job: int | str) -> m.JobDetail:
        detail: m.JobDetail = self.api.job(self.project, job)
        return detail

    def quota(self) -> int:
        return next(vm.quota for vm in self.api.vm_types(self.project) if vm.vm == "local-cpu")

    def agent(self, job: m.Job, attempt: int = 1, node: int = 0) -> Agent:
        """The agent of a node of an attempt, as soon as the job got its devices."""
        folder = self.server.data_dir / "jobs" / job.id / str(attempt) / str(node)
        self.wait_for(lambda: len(self.job(job.number).attempts) >= attempt)
        return Agent(ApiClient(self.server.url, (folder / "token").read_text()), folder)

    def running(self, **changes: Any) -> tuple[m.Job, Agent]:
        """A job whose scripted agent has begun."""
        job = self.submit(**changes)
        agent = self.agent(job)
        agent.register()
        agent.beat()
        return job, agent

    def snapshot(self) -> str:
        """The id of an empty snapshot of the project."""
        manifest = b'{"chunks":[],"entries":[],"version":1}'
        return str(self.api.commit_snapshot(self.project, manifest).id)

    def log(self, number: int, **options: Any) -> m.LogPage:
        page: m.LogPage = self.api.job_log(self.project, number, **options)
        return page

    def texts(self, number: int, **options: Any) -> list[str]:
        return [line.text for line in self.log(number, **options).lines]

    def series(self, number: int, name: str = "loss", **options: Any) -> m.MetricSeries:
        series: m.MetricSeries = self.api.metric_series(self.project, number, name, **options)
        return series

    def kinds(self, number: int) -> list[str]:
        return [event.kind for event in self.job(number).events]

    def reconnect(self) -> None:
        """Go on as the same user after the server came back, perhaps elsewhere."""
        old = self.api
        self.api = old.at(self.server)
        old.close()

    def clear(self) -> None:
        """End every job, so that the next test finds all devices free."""
        for job in self.api.jobs(self.project):
            if job.status in m.TERMINAL_STATUSES:
                continue
            with contextlib.suppress(PeriFlowError, FileNotFoundError):  # attached: no folder
                if self.api.stop_job(self.project, job.number).status == "stopping":
                    attempts = self.job(job.number).attempts
                    folder = self.server.data_dir / "jobs" / job.id / str(len(attempts))
                    for node in range(len(list(folder.iterdir()))):
                        self.agent(job, len(attempts), node).finish("stopped", 0)


@pytest.fixture(scope="module")
def manual_server(
    tmp_path_factory: pytest.TempPathFactory,
    server_type: Any,
    new_database: Callable[[], dict[str, str]],
) -> Iterator[Any]:
    """A server for the tests of a module that places jobs and starts nothing."""
    home = tmp_path_factory.mktemp("manual") / "home"
    process = server_type(home, {**new_database(), "PERIFLOW_SERVER_EXECUTOR": "none"})
    process.start()
    yield process
    process.close()


@pytest.fixture(scope="module")
def server_type(server: Any) -> Any:
    return type(server)


@pytest.fixture
def desk(manual_server: Any) -> Iterator[Desk]:
    desk = Desk(manual_server, manual_server.client())
    yield desk
    desk.clear()


@pytest.fixture
def desk_at() -> type[Desk]:
    """``desk_at(server, client)``: the desk of somebody who has a client already."""
    return Desk


@pytest.fixture
def own_desk(start_server: Callable[..., Any]) -> Desk:
    """A desk on a server of its own, which the test may kill."""
    server = start_server(PERIFLOW_SERVER_EXECUTOR="none")
    return Desk(server, server.client())
