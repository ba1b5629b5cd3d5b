"""The installed `pf` as a process, in a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest
from local_server import host
from nursery import run
from waiting import wait_until

PF = Path(sys.executable).parent / "pf"
PASSWORD = "correct horse battery"
_KEPT = ("HOME", "LANG", "TMPDIR", "USER")


class Shell:
    """A shell that has only `pf`.

    Args:
        folder: Where commands run; the home lies in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.env = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self.env |= {
            "PERIFLOW_HOME": str(self.home),
            "PATH": f"{PF.parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(
        self, *words: object, stdin: str = "", cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `pf` without a terminal; whatever its exit code."""
        given = {**self.env, **env}
        return run("periflow_cli", words, given, folder=cwd or self.folder, stdin=stdin)

    def pf(self, *words: object, stdin: str = "", **env: str) -> str:
        """Run `pf`, which must succeed; its stdout."""
        done = self.run(*words, stdin=stdin, **env)
        assert done.returncode == 0, f"pf {words}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def json(self, *words: object, **env: str) -> Any:
        """Run `pf ... --json`; the document, which is all of stdout."""
        return json.loads(self.pf(*words, "--json", **env))

    def start(self, *words: object, **env: str) -> subprocess.Popen[str]:
        """Start `pf` in a pipe."""
        return subprocess.Popen(
            [str(PF), *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.env, **env},
            cwd=self.folder,
        )

    def on_terminal(self, *words: object, columns: int = 100, **env: str) -> pexpect.spawn[str]:
        """Start `pf` on a terminal of its own."""
        return pexpect.spawn(
            str(PF),
            [str(word) for word in words],
            env={**self.env, "TERM": "xterm", **env},
            cwd=str(self.folder),
            dimensions=(40, columns),
            encoding="utf-8",
            timeout=200,
        )

    def sign_up(self, username: str = "ada") -> None:
        """Sign up; on a server that runs already, where this home has none yet."""
        if not (self.home / "server").exists() and "PERIFLOW_URL" not in self.env:
            host(self.home, self.env)
        email = f"{username}@example.com"
        words = ("signup", "--username", username, "--name", "Ada", "--email", email)
        self.pf(*words, "--password-stdin", stdin=PASSWORD)

    def settle(self) -> None:
        """Sign up, with an organization and a project, on a server that runs already."""
        self.sign_up()
        self.pf("org", "create", "analytical")
        self.pf("project", "create", "engines")

    def write_job(
        self, name: str = "job.yml", command: str = "echo hello", extra: str = "", **top: object
    ) -> Path:
        """A job file that runs a shell command."""
        lines = {"vm": "local-cpu", "num_devices": 1, **top}
        text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)
        path = self.folder / name
        path.write_text(
            f"{text}job_setting:\n  type: custom\n  docker:\n    image: none\n"
            f"    command: {json.dumps(command)}\n{extra}"
        )
        return path

    def run_job(self, command: str = "echo hello", *words: object) -> int:
        """Start a job; its number."""
        file = self.write_job(f"job-{time.monotonic_ns()}.yml", command)
        number = self.json("job", "run", "-f", file, *words)["number"]
        assert isinstance(number, int)
        return number

    def wait_for_job(self, number: int, *statuses: str) -> Any:
        """The job as soon as it is in one of these states (by default: ended)."""
        wanted = statuses or ("success", "failed", "stopped")
        return wait_until(
            lambda: (job := self.json("job", "view", number))["status"] in wanted and job
        )

    def leave(self) -> None:
        """Stop the server and what runs out of this home."""
        self.run("server", "stop")
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in word for word in process.info["cmdline"] or []):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="session")
def shell_class() -> type[Shell]:
    """For fixtures that make shells in their own way."""
    return Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Nobody yet, and no server."""
    found = Shell(tmp_path)
    yield found
    found.leave()


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One user with a project, for the tests of a module; they leave the context as it is."""
    found = Shell(tmp_path_factory.mktemp("settled"))
    found.settle()
    yield found
    found.leave()
