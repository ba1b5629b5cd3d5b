"""Jobs on a real server, run by real agents; node folders looked into. Fixtures to import."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.snapshots import upload_folder

SECONDS = 90.0
ENDED = ("success", "failed", "stopped")


class JobRun:
    """One job on a server; ``folder`` is that of its first node in its first attempt."""

    def __init__(self, client: Any, data_dir: Path, job: m.Job) -> None:
        self.client = client
        self.job = job
        self.folder = data_dir / "jobs" / job.id / "1" / "0"

    def node(self, rank: int, attempt: int = 1) -> JobRun:
        """The same job, with the folder of another node."""
        other = JobRun(self.client, self.folder, self.job)
        other.folder = self.folder.parents[1] / str(attempt) / str(rank)
        return other

    @property
    def detail(self) -> m.JobDetail:
        return self.client.job(self.client.project, self.job.number)

    @property
    def events(self) -> list[str]:
        return [event.message for event in self.detail.events]

    @property
    def log(self) -> list[str]:
        return [
            line.text for line in self.client.job_log(self.client.project, self.job.number).lines
        ]

    def until(self, condition: Callable[[], Any], explain: Callable[[], str] | None = None) -> Any:
        """The first true value of the condition."""
        return wait_until(condition, SECONDS, explain or self.story)

    def wait(self, *statuses: str, seconds: float = SECONDS) -> m.JobDetail:
        """The job once it has one of these statuses; any end, without a name."""
        wanted = statuses or ENDED
        wait_until(lambda: self.detail.status in (*wanted, *ENDED), seconds, self.story)
        detail = self.detail
        assert detail.status in wanted, self.story()
        return detail

    def wait_for_line(self, text: str, seconds: float = SECONDS) -> None:
        wait_until(lambda: any(text in line for line in self.log), seconds, self.story)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the node folder; empty where there is none."""
        try:
            return json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return {}

    def kill_agent(self) -> None:
        """SIGKILL to the supervisor, and wait for the next one."""
        pid = self.read("agent.json")["pid"]
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: self.read("agent.json").get("pid") != pid)

    def worker_pid(self) -> int:
        """The worker of the agent; 0 while there is none."""
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"--worker" in words and os.fsencode(self.folder.resolve()) in words:
                return int(entry.name)
        return 0

    def story(self) -> str:
        """Everything known, for a failing test."""
        lines = [f"{e.kind}: {e.message}" for e in self.detail.events]
        nodes = sorted(self.folder.parents[1].glob("*/*"))
        for path in (node / name for node in nodes for name in ("agent.log", "output.log")):
            lines.append(f"--- {'/'.join(path.parts[-3:])}")
            lines.append(path.read_text(errors="replace")[-4000:] if path.exists() else "(none)")
        return "\n".join(lines)


def submit(
    client: ApiClient,
    project: str,
    command: Any,
    *,
    workspace: Path | None = None,
    data: m.Dataset | list[dict[str, Any]] | None = None,
    vm: str = "local-cpu",
    devices: int = 1,
    restored: str | None = None,
    output: str = "/workspace/ckpt",
    env: dict[str, str] | None = None,
    shell: m.ShellEnvironment | None = None,
    restart: dict[str, Any] | None = None,
    plugin: dict[str, Any] | None = None,
    retention: dict[str, Any] | None = None,
) -> m.Job:
    """Create a job that runs a command with this test's Python."""
    spec: dict[str, Any] = {
        "vm": vm,
        "num_devices": devices,
        "job_setting": {"docker": {"image": "python:3.11", "command": command}},
        "checkpoint": {"output_checkpoint_dir": output},
        "env": env or {},
        "plugin": plugin or {},
    }
    if isinstance(data, list):
        spec["data"] = data
    elif data:
        spec["data"] = [{"name": data.name, "mount_path": "/workspace/data"}]
    if retention is not None:
        spec["retention"] = retention
    if restart is not None:
        spec["restart"] = restart
    if restored:
        spec["checkpoint"]["input"] = {"id": restored, "mount_path": "/workspace/input"}
    folder = None
    if workspace:
        snapshot = upload_folder(client, project, workspace, keep_name=False)
        folder = m.Workspace(snapshot_id=snapshot.id, name=workspace.name)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    default = m.ShellEnvironment(python=sys.executable, variables={"PATH": path})
    body = m.JobCreate(spec=JobSpec.model_validate(spec), workspace=folder, shell=shell or default)
    return client.create_job(project, body)


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    """A user of the module's server with a project of his own."""
    return server.client()


@pytest.fixture
def run_on() -> Iterator[Callable[..., JobRun]]:
    """Runs a command as a job on a server: ``run_on(server, command, …)``."""
    started: list[JobRun] = []

    def _run(server: Any, command: Any, client: Any = None, **options: Any) -> JobRun:
        client = client or server.client()
        job = submit(client, client.project, command, **options)
        started.append(JobRun(client, server.data_dir, job))
        return started[-1]

    yield _run
    for job in started:
        if job.detail.status not in ENDED:
            job.client.stop_job(job.client.project, job.job.number)
            job.wait()


@pytest.fixture
def run(server: Any, client: Any, run_on: Callable[..., JobRun]) -> Callable[..., JobRun]:
    """Runs a command as a job on the module's server: ``run(command, workspace=…, data=…)``."""
    return lambda command, **options: run_on(server, command, client, **options)
