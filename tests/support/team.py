"""People who share only a control plane: each has a `pf` and a home of his own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mailserver import MailServer, found
from nursery import run

BIN = Path(sys.executable).parent
_KEPT = ("LANG", "TMPDIR", "USER")


class Person:
    """One person at one machine; ``seen`` is all that `pf` ever printed there.

    Args:
        url: Of the control plane, as this person reaches it.
    """

    def __init__(self, folder: Path, url: str, username: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.username = username
        self.email = f"{username}@example.com"
        self.password = f"the password of {username} {os.urandom(4).hex()}"
        self.seen = ""
        folder.mkdir(mode=0o700)
        self.environment = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "HOME": str(folder),
            "PERIFLOW_HOME": str(self.home),
            "PERIFLOW_URL": url,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }

    def run(
        self, *words: object, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `pf`; whatever its exit code."""
        done = run(
            "periflow_cli",
            words,
            {**self.environment, **variables},
            folder=self.folder,
            stdin=stdin,
            timeout=200,
        )
        self.seen += done.stdout + done.stderr
        return done

    def pf(self, *words: object, stdin: str = "", **variables: str) -> str:
        """Run `pf`, which must succeed; its stdout."""
        done = self.run(*words, stdin=stdin, **variables)
        assert done.returncode == 0, f"pf {words}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def json(self, *words: object, **variables: str) -> Any:
        return json.loads(self.pf(*words, "--json", **variables))

    def sign_up(self, mail: MailServer) -> None:
        """Sign up with the code that comes by mail."""
        words = ("--username", self.username, "--name", self.username.title())
        words += ("--email", self.email, "--password-stdin")
        self.run("signup", *words, stdin=self.password)
        code = found(r"code for PeriFlow is (\d+)", mail.newest(self.email, "your PeriFlow code"))
        self.pf("signup", "--username", self.username, "--code", code)

    def write_job(self, command: str, extra: str = "", docker: str = "") -> Path:
        """A job file that runs a shell command."""
        path = self.folder / f"job-{time.monotonic_ns()}.yml"
        path.write_text(
            "vm: local-cpu\nnum_devices: 1\njob_setting:\n  type: custom\n  docker:\n"
            f"    image: lab/train:1\n{docker}    command: {json.dumps(command)}\n{extra}"
        )
        return path

    def wait_for_job(self, number: int, *statuses: str, seconds: float = 120) -> Any:
        """The job as soon as it is in one of these states (by default: ended)."""
        wanted = statuses or ("success", "failed", "stopped")
        deadline = time.monotonic() + seconds
        while (job := self.json("job", "view", number))["status"] not in wanted:
            assert time.monotonic() < deadline, f"job {number}: {job}"
            time.sleep(0.1)
        return job

    def tokens(self) -> list[str]:
        """What this person is logged in with."""
        sessions = json.loads((self.home / "session.json").read_text())
        return [each[kind] for each in sessions.values() for kind in _TOKENS]


_TOKENS = ("access_token", "refresh_token")
