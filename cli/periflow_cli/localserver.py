"""The embedded server: found, proven, started once, stopped.

`pf` speaks to it only after it has proven that it knows the key in the home folder: another user
of this machine could be listening on its port.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from periflow_cli import __version__
from periflow_sdk.api.proof import ask_proven
from periflow_sdk.errors import PeriFlowError, ServerUnreachableError, TimedOutError

START_SECONDS = 30.0
STOP_SECONDS = 15.0
HEALTH_SECONDS = 2.0
_POLL_SECONDS = 0.03


@dataclass(frozen=True)
class Running:
    """A server that has proven itself."""

    url: str
    pid: int
    version: str
    data_dir: str


class LocalServer:
    """The embedded server of one home.

    Args:
        home: PERIFLOW_HOME.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "server"
        self.log = self.folder / "server.log"

    def find(self) -> Running | None:
        """The running server, if it answers and proves that it is ours."""
        record = self._record()
        url = str(record.get("url", ""))
        port = urlsplit(url).port
        if not url.startswith("http://127.0.0.1:") or port is None:
            return None
        answer = ask_proven(port, self.folder / "key", HEALTH_SECONDS)
        if answer is None:
            return None
        return Running(url, int(answer["pid"]), str(answer["version"]), str(self.folder))

    def ensure(self, note: Callable[[str], None]) -> Running:
        """The running server; started if there is none.

        Args:
            note: Told in one line when one was started.

        Raises:
            PeriFlowError: it does not start, or is of a version too far from ours.
        """
        running = self.find()
        if running is None:
            running, started = self._start()
            if started:
                note(
                    f"Started the local PeriFlow server at {running.url} "
                    f"(data in {running.data_dir}; stop with pf server stop)"
                )
        _check_version(running, note)
        return running

    def stop(self) -> int | None:
        """End the server gracefully; the pid it had, None if none ran.

        Raises:
            TimedOutError: it does not end.
        """
        running = self.find()
        pid = running.pid if running else self._unresponsive_pid()
        if pid is None:
            return None
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_alive(pid):
            if time.monotonic() > deadline:
                raise TimedOutError(
                    f"The local server (pid {pid}) has not ended after {STOP_SECONDS:.0f} seconds.",
                    hint=f"See {self.log}, or end it with `kill -9 {pid}`: no data is lost.",
                )
            time.sleep(_POLL_SECONDS)
        return pid

    def holds_lock(self) -> bool:
        """Whether a server process of this home is alive, answering or not."""
        try:
            descriptor = os.open(self.folder / "server.lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def running_jobs(self) -> int:
        """How many node agents of this server are alive: they go on without it."""
        import psutil

        count = 0
        for record in self.folder.glob("jobs/*/*/*/agent.json"):
            try:
                command = psutil.Process(int(json.loads(record.read_bytes())["pid"])).cmdline()
            except (OSError, ValueError, KeyError, psutil.Error):
                continue
            count += "periflow_sdk.agent" in command
        return count

    def last_lines(self, count: int) -> list[str]:
        """The end of the server's own log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return text.splitlines()[-count:] if count > 0 else []

    def outbox_code(self, address: str | None) -> tuple[str, Path] | None:
        """The code of the newest mail to an address, or to any, and the file it stands in."""
        from email.parser import BytesHeaderParser

        mails = sorted(self.folder.glob("outbox/*.eml"), key=lambda path: path.stat().st_mtime_ns)
        for mail in reversed(mails):
            headers = BytesHeaderParser().parsebytes(mail.read_bytes())
            code = headers["X-PeriFlow-Code"]
            if code and (address is None or address.lower() in str(headers["To"]).lower()):
                return str(code).strip(), mail
        return None

    def _start(self) -> tuple[Running, bool]:
        for folder in (self.home, self.folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._start_lock():
            process: subprocess.Popen[bytes] | None = None
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline:
                # Another `pf` may have started it while this one waited for the lock.
                if running := self.find():
                    return running, process is not None
                if process is None and not self.holds_lock():
                    process = self._spawn()
                elif process is not None and process.poll() is not None:
                    raise self._died(process.returncode)
                time.sleep(_POLL_SECONDS)
        raise ServerUnreachableError(
            f"The local server has not answered for {START_SECONDS:.0f} seconds.",
            code="server_silent",
            hint="`pf server logs` says more; `pf server stop`, then try again.",
        )

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "periflow_server", "serve", "--embedded"]
        with os.fdopen(
            os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "a"
        ) as log:
            return subprocess.Popen(
                [*command, "--home", str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def _died(self, code: int) -> ServerUnreachableError:
        lines = " | ".join(line.strip() for line in self.last_lines(5) if line.strip())
        return ServerUnreachableError(
            f"The local server ended at once with exit code {code}: {lines or 'it said nothing'}",
            code="server_died",
            hint=f"pf server logs ({self.log})",
        )

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        descriptor = os.open(self.folder / "start.lock", os.O_CREAT | os.O_RDWR, 0o600)
        deadline = time.monotonic() + START_SECONDS + 5
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimedOutError(
                            "Another pf has been starting the local server for too long.",
                            hint="pf server logs",
                        ) from None
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads((self.folder / "server.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _unresponsive_pid(self) -> int | None:
        """The pid of a server that lives and does not answer, made sure of by its command line."""
        import psutil

        if not self.holds_lock():
            return None
        try:
            pid = int(self._record()["pid"])
            return pid if "periflow_server" in psutil.Process(pid).cmdline() else None
        except (KeyError, ValueError, psutil.Error):
            return None


def _is_alive(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _check_version(running: Running, note: Callable[[str], None]) -> None:
    """One minor release apart works and is said; further apart is refused."""
    ours = __version__
    distance = _minor(ours) - _minor(running.version)
    if distance == 0:
        return
    restart = "pf server stop (running jobs go on), then the same command again"
    if abs(distance) > 1:
        raise PeriFlowError(
            f"The local server is of version {running.version} and pf of {ours}: too far apart.",
            code="version_skew",
            hint=restart,
        )
    note(f"The local server is of version {running.version}, pf of {ours}. To renew it: {restart}.")


def _minor(text: str) -> int:
    try:
        major, minor = text.split(".")[:2]
        return int(major) * 1000 + int(minor)
    except ValueError:
        return 0
