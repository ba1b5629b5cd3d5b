"""A stranger with an empty home who has only the installed `pf`."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from local_server import host
from nursery import run
from waiting import wait_until

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import NotFoundError, PeriFlowError

BIN = Path(sys.executable).parent
SIGN_UP = (
    "signup --username ada --name Ada --email ada@example.com --password-stdin",
    "org create analytical",
    "project create engines",
)
PASSWORD = "correct horse battery"
COUNTING_JOB = Path(__file__).parent / "counting_job"


class Stranger:
    """Runs `pf` in a private home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._job_ids: dict[int, str] = {}
        self._is_settled = False  # whoever is has his `pf` forked, as his server
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PERIFLOW_")}
        self.environment = {
            **kept,
            "PERIFLOW_HOME": str(self.home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BIN / "pf"), *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def try_pf(self, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        if self._is_settled:
            return run("periflow_cli", arguments, self.environment, folder=self.folder, stdin=stdin)
        return subprocess.run(
            [str(BIN / "pf"), *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=200,
        )

    def pf(self, *arguments: object, stdin: str = "") -> str:
        done = self.try_pf(*arguments, stdin=stdin)
        assert done.returncode == 0, f"pf {arguments}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: object) -> Any:
        return json.loads(self.pf(*arguments, "--json"))

    def client(self) -> ApiClient:
        """What `pf` is logged in with, for tests that ask often."""
        sessions = json.loads((self.home / "session.json").read_text())
        url = self.environment.get("PERIFLOW_URL", "").rstrip("/")
        if url not in sessions:
            url = json.loads((self.home / "server/server.json").read_text())["url"]
        tokens = sessions.get(url) or sessions["local"]
        return ApiClient(url, tokens["access_token"])

    @functools.cached_property
    def _project(self) -> str:
        return str(self.json("project", "list")[0]["id"])

    def project_id(self) -> str:
        return self._project

    def sign_up(self) -> None:
        for line in SIGN_UP:
            self.pf(*line.split(), stdin=PASSWORD)

    def settle(self) -> None:
        """Be signed up already, on a server that runs already."""
        host(self.home, self.environment)
        for line in SIGN_UP:
            words = line.split()
            done = run("periflow_cli", words, self.environment, folder=self.folder, stdin=PASSWORD)
            assert done.returncode == 0, done.stderr
        self._is_settled = True

    def run_counting_job(self, *options: str, devices: int = 1, script: str = "train.py") -> int:
        """Start the counting job and return its number."""
        template = self.folder / f"counting-{time.monotonic_ns()}.yml"
        template.write_text(
            f"vm: local-cpu\n"
            f"num_devices: {devices}\n"
            f"job_setting:\n"
            f"  type: custom\n"
            f"  docker:\n"
            f"    image: python:3.11\n"
            f"    command: python /workspace/counting_job/{script} {' '.join(options)}\n"
            f"checkpoint:\n"
            f"  output_checkpoint_dir: /workspace/ckpt\n"
        )
        number = self.json("job", "run", "-f", template, "-d", COUNTING_JOB)["number"]
        assert isinstance(number, int)
        return number

    def job(self, number: int) -> Any:
        return self.json("job", "view", number)

    def peek(self, number: int) -> m.JobDetail | None:
        """The job, or None where there is none yet, for who looks often: `pf` takes far longer."""
        try:
            with self.client() as client:
                return client.job(self._project, number)
        except NotFoundError:
            return None
        except (OSError, ValueError, PeriFlowError):
            self.pf("job", "list", "--limit", 1)  # starts a server that was killed, renews a login
            return None

    wait_until = staticmethod(wait_until)

    def wait_for_job(self, number: int, *statuses: str, seconds: float = 90) -> Any:
        statuses = statuses or ("success", "failed", "stopped")
        self.wait_until(
            lambda: (job := self.peek(number)) and job.status in statuses,
            seconds,
            lambda: f"job {number} never became {statuses}: {self.job(number)}",
        )
        return self.job(number)

    def wait_for_step(self, number: int, step: int) -> None:
        """Wait until the server knows that a job has done this step."""
        self.wait_until(lambda: (job := self.peek(number)) and job.step == step)

    def server_pid(self) -> int:
        return int(self.json("server", "status")["pid"])

    def agent_pid(self, number: int) -> int:
        """The supervisor of the newest attempt of a job."""
        newest = self._nodes(number, "agent.json")[-1]
        return int(json.loads(newest.read_text())["pid"])

    def output(self, number: int) -> list[str]:
        """What all attempts have printed, from their node folders: cheap enough to be polled."""
        found = self._nodes(number, "output.log")
        return [line for path in found for line in path.read_text().splitlines()]

    def _nodes(self, number: int, name: str) -> list[Path]:
        if number not in self._job_ids:
            self._job_ids[number] = self.job(number)["id"]
        found = (self.home / "server/jobs" / self._job_ids[number]).glob(f"*/0/{name}")
        return sorted(found, key=lambda path: int(path.parts[-3]))

    def log(self, number: int) -> list[str]:
        return self.pf("job", "log", number, "-n", 10000).splitlines()

    def leave(self) -> None:
        """Stop the server and whatever still runs out of this home."""
        self.try_pf("server", "stop")
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in word for word in process.info["cmdline"] or []):
                process.send_signal(signal.SIGKILL)


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Stranger]:
    """Nobody yet: an empty home."""
    stranger = Stranger(tmp_path)
    yield stranger
    stranger.leave()


@pytest.fixture
def stranger(newcomer: Stranger) -> Stranger:
    """Signed up, with an organization and a project."""
    newcomer.settle()
    return newcomer


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    """One signed-up stranger for the tests of a module; leave the server running."""
    stranger = Stranger(tmp_path_factory.mktemp("settled"))
    stranger.settle()
    yield stranger
    stranger.leave()
