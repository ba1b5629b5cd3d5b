"""A stranger with an empty home who has only the installed `pf`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from periflow_sdk.api.client import ApiClient

BIN = Path(sys.executable).parent
COUNTING_JOB = Path(__file__).parent / "counting_job"


class Stranger:
    """Runs `pf` in a private home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
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
        return subprocess.run(
            [str(BIN / "pf"), *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=110,
        )

    def pf(self, *arguments: object, stdin: str = "") -> str:
        done = self.try_pf(*arguments, stdin=stdin)
        assert done.returncode == 0, f"pf {arguments}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: object) -> Any:
        return json.loads(self.pf(*arguments, "--json"))

    def client(self) -> ApiClient:
        """What `pf` is logged in with, for tests that ask often."""
        tokens = json.loads((self.home / "session.json").read_text())["local"]
        url = json.loads((self.home / "server/server.json").read_text())["url"]
        return ApiClient(url, tokens["access_token"])

    def project_id(self) -> str:
        return str(self.json("project", "list")[0]["id"])

    def sign_up(self) -> None:
        self.pf(
            *("signup", "--username", "ada", "--name", "Ada", "--email", "ada@example.com"),
            "--password-stdin",
            stdin="correct horse battery",
        )
        self.pf("org", "create", "analytical")
        self.pf("project", "create", "engines")

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

    @staticmethod
    def wait_until(
        condition: Callable[[], Any],
        seconds: float = 60,
        complaint: Callable[[], str] | str = "timed out",
    ) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.1)
        raise AssertionError(complaint if isinstance(complaint, str) else complaint())

    def wait_for_job(self, number: int, *statuses: str, seconds: float = 60) -> Any:
        statuses = statuses or ("success", "failed", "stopped")
        return self.wait_until(
            lambda: (job := self.job(number))["status"] in statuses and job,
            seconds,
            lambda: f"job {number} never became {statuses}: {self.job(number)}",
        )

    def server_pid(self) -> int:
        return int(self.json("server", "status")["pid"])

    def agent_pid(self, number: int) -> int:
        """The supervisor of the newest attempt of a job."""
        job_id = self.job(number)["id"]
        nodes = (self.home / "server/jobs" / job_id).glob("*/0/agent.json")
        newest = max(nodes, key=lambda path: int(path.parts[-3]))
        return int(json.loads(newest.read_text())["pid"])

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
    newcomer.sign_up()
    return newcomer


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    """One signed-up stranger for the tests of a module; leave the server running."""
    stranger = Stranger(tmp_path_factory.mktemp("settled"))
    stranger.sign_up()
    yield stranger
    stranger.leave()
