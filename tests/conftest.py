"""Real servers on free ports, a clean environment, temporary homes.

``server`` is one server for a whole module; ``own_server`` belongs to one test, which may kill it.
``server.client()`` is the client of a new user with an organization and a project of his own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloud import azure_url, endpoint, s3_url  # noqa: F401
from google_store import google  # noqa: F401
from nursery import Forked, nursery
from postgresql_cluster import PostgresqlCluster, programs
from waiting import wait_until

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient

START_SECONDS = 60
STOP_SECONDS = 60
MAIL_SECONDS = 60

for _name in [name for name in os.environ if name.startswith("PERIFLOW_")]:
    del os.environ[_name]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Without a client of its own every request of httpx reads the authorities' certificates first.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)

_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: a missing tool must not look like a pass."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and "gpu" not in item.keywords:
        report.outcome = "failed"
        report.longrepr = f"skipped, and with CI=true nothing may be: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
    return report


class Client(ApiClient):
    """A client of a signed-up user; ``organization`` and ``project`` are ids."""

    username: str
    session: m.Session
    organization: str
    project: str

    def at(self, server: ServerProcess) -> Client:
        """The same user's client of another server, or of this one at its new address."""
        client = type(self)(server.url, self.session.access_token)
        client.__dict__.update({n: v for n, v in vars(self).items() if n in Client.__annotations__})
        return client


class ServerProcess:
    """An embedded control plane as a process of its own.

    Args:
        home: Its PERIFLOW_HOME.
        variables: Added to its environment.
        is_embedded: False for a server as others would reach it.
    """

    password = "correct horse battery"
    by_command = False
    """Whether it is started as people start it; else it is forked, which is quicker."""

    def __init__(
        self, home: Path, variables: dict[str, str] | None = None, *, is_embedded: bool = True
    ) -> None:
        self.home = home
        self.data_dir = home / "server"
        self.outboxes = [self.data_dir / "outbox"]
        self.variables = dict(variables or {})
        self.is_embedded = is_embedded
        self.url = ""
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self._clients: list[Client] = []
        self._mails: dict[Path, dict[str, str]] = {}

    @property
    def database_url(self) -> str:
        """The address of its database, for tests that look behind the API."""
        kept = f"sqlite:///{self.data_dir / 'periflow.db'}"
        return self.variables.get("PERIFLOW_SERVER_DATABASE_URL", kept)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.home / "server-output.log").open("ab") as log:
            self.process = self.run(*self.words(), output=log.fileno())
        wait_until(self._is_up, START_SECONDS, self._failure)

    def run(self, *words: str, output: int) -> subprocess.Popen[bytes] | Forked:
        """Run a command line of ``pf-server`` with the variables of this server.

        Args:
            output: Descriptor of what it prints to.
        """
        variables = {
            **os.environ,
            "PERIFLOW_HOME": str(self.home),
            "PERIFLOW_SERVER_DATA_DIR": str(self.data_dir),
            **self.variables,
        }
        if not self.by_command and (parent := nursery("periflow_server")):
            with Path(os.devnull).open() as nothing:
                streams = nothing.fileno(), output, output
                return parent.fork(words, variables, Path.cwd(), *streams)
        return subprocess.Popen(
            [sys.executable, "-m", "periflow_server", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=variables,
            start_new_session=True,
        )

    def words(self) -> list[str]:
        """The words of the command line that serves."""
        options = ["--embedded", "--home", str(self.home)] if self.is_embedded else ["--port", "0"]
        return ["serve", *options]

    def command(self) -> list[str]:
        return [sys.executable, "-m", "periflow_server", *self.words()]

    def stop(self) -> int:
        """End it as `pf server stop` does; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it without any chance to clean up."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def restart(self) -> None:
        """Kill it if it runs, and start it again on the same home."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.start()

    def log(self) -> str:
        return (self.home / "server-output.log").read_text(errors="replace")

    def anonymous(self) -> ApiClient:
        """A client without a login."""
        return ApiClient(self.url)

    def client(self, username: str | None = None) -> Client:
        """The client of a user who has just signed up, with an organization and a project."""
        client = self.signed_up(username)
        client.organization = client.create_organization(f"{client.username}-org").id
        client.project = client.create_project(client.organization, "project").id
        return client

    def signed_up(self, username: str | None = None) -> Client:
        """The client of a user who has just signed up and is in no organization."""
        username = username or f"user{os.getpid()}-{next(_numbers)}"
        email = f"{username.lower()}@example.com"
        with self.anonymous() as anonymous:
            anonymous.sign_up(
                m.SignupRequest(username=username, name="Test", email=email, password=self.password)
            )
            session = anonymous.confirm_signup(
                m.SignupConfirmation(username=username, code=self.mailed_code(email))
            )
        client = Client(self.url, session.access_token)
        client.username, client.session = username, session
        self._clients.append(client)
        return client

    def mailed_code(self, email: str) -> str:
        """The newest code mailed to this address."""
        found: list[str] = []

        def is_there() -> bool:
            found[:] = self._codes(email)
            return bool(found)

        # Of several servers on one database any may have put it into its outbox, a bit later.
        wait_until(is_there, MAIL_SECONDS, f"no mail for {email}")
        return found[-1]

    def _codes(self, email: str) -> Iterator[str]:
        """The codes mailed to this address, the newest last."""
        paths = [path for outbox in self.outboxes for path in outbox.glob("*.eml")]
        for path in paths:
            if path not in self._mails:  # a server of many tests has written hundreds
                headers = path.read_text().partition("\n\n")[0].splitlines()
                self._mails[path] = dict(line.split(": ", 1) for line in headers if ": " in line)
        for path in sorted(paths, key=lambda path: path.name):
            fields = self._mails[path]
            if fields.get("To") == email and "X-PeriFlow-Code" in fields:
                yield fields["X-PeriFlow-Code"]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(self._failure())
        try:
            document: dict[str, Any] = json.loads((self.data_dir / "server.json").read_text())
        except (OSError, ValueError):
            return False
        self.url = document["url"]
        return bool(document["pid"] == self.process.pid)

    def _failure(self) -> str:
        return f"the server did not start:\n{self.log()}"


@pytest.fixture(scope="session")
def server_class() -> type[ServerProcess]:
    """For fixtures that start servers in their own way."""
    return ServerProcess


@pytest.fixture
def admin(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs ``pf-server admin`` beside a server; its exit code and all it prints."""

    def run(server: ServerProcess, *words: str) -> tuple[int, str]:
        output = tmp_path / "admin.txt"
        with output.open("wb") as file:
            process = server.run("admin", *words, "--home", str(server.home), output=file.fileno())
        return process.wait(100), output.read_text()

    return run


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlCluster]:
    """A PostgreSQL of this test process; ``create()`` gives the address of a new database."""
    bin_dir = programs()
    if bin_dir is None:
        pytest.skip("PostgreSQL's initdb is missing: run scripts/install-debian-packages.sh")
    cluster = PostgresqlCluster(bin_dir)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def new_database() -> Callable[[], dict[str, str]]:
    """The variables that give a new server its database: none, it keeps one in its home."""
    return dict


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for the tests of a module; do not stop it."""
    process = ServerProcess(tmp_path_factory.mktemp("server") / "home")
    process.start()
    yield process
    process.close()


@pytest.fixture
def start_server(
    tmp_path: Path, new_database: Callable[[], dict[str, str]]
) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers for one test: ``start_server(VARIABLE="value")``.

    Optionally with ``name=`` of its home and ``is_embedded=False``.
    """
    started: list[ServerProcess] = []

    def _start(name: str = "home", *, is_embedded: bool = True, **variables: str) -> ServerProcess:
        given = {**new_database(), **variables}
        process = ServerProcess(tmp_path / name, given, is_embedded=is_embedded)
        started.append(process)
        process.start()
        return process

    yield _start
    for process in started:
        process.close()


@pytest.fixture
def own_server(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server of this test alone: kill it, restart it."""
    return start_server()
