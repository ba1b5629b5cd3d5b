"""The server's database, keys and chunks, for tests that look behind the API.

Every test that uses a server or a database runs on SQLite and on PostgreSQL, except those marked
``sqlite`` (they are about the file itself) or ``postgresql`` (about several servers on one).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from blake3 import blake3

from periflow_sdk.api import models as m
from periflow_sdk.errors import PeriFlowError
from periflow_server.db.base import Database
from periflow_server.db.schema import import_tables

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

_KINDS = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_kind" in metafunc.fixturenames:
        marked = [kind for kind in _KINDS if metafunc.definition.get_closest_marker(kind)]
        metafunc.parametrize("database_kind", marked or _KINDS, scope="session")


@pytest.fixture(scope="session")
def new_database_url(
    database_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """Gives the address of a new database without any tables."""
    if database_kind == "sqlite":
        return lambda: f"sqlite:///{tmp_path_factory.mktemp('database') / 'periflow.db'}"
    cluster = request.getfixturevalue("postgresql")
    return lambda: str(cluster.create(template=None))


@pytest.fixture(scope="session")
def new_database(
    database_kind: str, request: pytest.FixtureRequest
) -> Callable[[], dict[str, str]]:
    """The variables that give a new server its database."""
    if database_kind == "sqlite":
        return dict
    cluster = request.getfixturevalue("postgresql")
    return lambda: {"PERIFLOW_SERVER_DATABASE_URL": cluster.create()}


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    server_class: type[ServerProcess],
    new_database: Callable[[], dict[str, str]],
) -> Iterator[ServerProcess]:
    """One server for all tests of this folder that leave it running; no jobs are run on it."""
    process = server_class(tmp_path_factory.mktemp("server") / "home", new_database())
    process.start()
    yield process
    process.close()


@pytest.fixture
def by_command(server_class: type[ServerProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of this test are started as people start them."""
    monkeypatch.setattr(server_class, "by_command", True)


@dataclass
class Pair:
    """Two servers as in production: one PostgreSQL, one store, one key; no mail server.

    ``clients`` are of one user, each at one of the servers.
    """

    servers: list[ServerProcess]
    clients: list[Client]

    def at_once(self, call: Callable[[Client, int], Any], times: int) -> list[Any]:
        """What the call gives or raises, made so often at one moment, by turns at each server."""
        start = threading.Barrier(times)

        def run(number: int) -> Any:
            start.wait(90)
            try:
                return call(self.clients[number % 2], number)
            except PeriFlowError as error:
                return error

        with ThreadPoolExecutor(times) as pool:
            return list(pool.map(run, range(times)))


def _production(database: dict[str, str], store: Path) -> dict[str, str]:
    return {
        **database,
        "PERIFLOW_SERVER_STORAGE_URL": f"file://{store}",
        "PERIFLOW_SERVER_SECRET_KEY": "the-same-key-on-every-server-of-one-database",
        "PERIFLOW_SERVER_ORG_APPROVAL": "auto",
    }


@pytest.fixture
def production(tmp_path: Path, new_database: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What several servers on one database are told, each in the same way."""
    return _production(new_database(), tmp_path / "store")


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
    server_class: type[ServerProcess],
    new_database: Callable[[], dict[str, str]],
) -> Iterator[list[ServerProcess]]:
    """Two servers on one database, for the tests of a module; do not stop them."""
    folder = tmp_path_factory.mktemp("pair")
    variables = _production(new_database(), folder / "store")
    found = [server_class(folder / n, variables, is_embedded=False) for n in ("one", "two")]
    for server in found:
        server.outboxes = [one.data_dir / "outbox" for one in found]
        server.start()
    yield found
    for server in found:
        server.close()


@pytest.fixture
def pair(servers: list[ServerProcess]) -> Pair:
    """The two servers, for a user of this test."""
    client = servers[0].client()
    return Pair(servers, [client, client.at(servers[1])])


@pytest.fixture
def database(server: ServerProcess) -> Iterator[Database]:
    """The running server's database, opened by this process as well."""
    import_tables()
    opened = Database(server.database_url)
    yield opened
    opened.close()


class Chunks:
    """Puts chunks and manifests as a client of the wire would."""

    def ref(self, data: bytes) -> m.ChunkRef:
        return m.ChunkRef(hash=blake3(data).hexdigest(), size=len(data))

    def put(self, client: Client, data: bytes) -> m.ChunkRef:
        """Store one chunk over HTTP."""
        ref = self.ref(data)
        for location in client.missing_chunks(client.project, [ref]):
            assert httpx.put(location.url, content=data).status_code == 201
        return ref

    def manifest(self, path: str, data: bytes) -> bytes:
        """The canonical manifest of one file in one chunk."""
        ref = self.ref(data)
        entry = {
            "path": path,
            "type": "file",
            "mode": 0o644,
            "size": len(data),
            "hash": ref.hash,
            "extents": [[0, 0, len(data)]],
        }
        document = {"version": 1, "chunks": [[ref.hash, ref.size]], "entries": [entry]}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    def snapshot(self, client: Client, data: bytes = b"content") -> m.Snapshot:
        """A committed snapshot of one file."""
        self.put(client, data)
        return client.commit_snapshot(client.project, self.manifest("file.bin", data))


@pytest.fixture
def chunks() -> Chunks:
    return Chunks()
