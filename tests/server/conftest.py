"""The server's database, keys and chunks, for tests that look behind the API.

Every test that uses a server or a database runs on SQLite and on PostgreSQL, except those marked
``sqlite``: they are about the file itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from blake3 import blake3

from periflow_sdk.api import models as m
from periflow_server.db.base import Database
from periflow_server.db.schema import import_tables

if TYPE_CHECKING:
    from conftest import Client, ServerProcess


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_kind" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("sqlite")
        kinds = ["sqlite"] if only else ["sqlite", "postgresql"]
        metafunc.parametrize("database_kind", kinds, scope="session")


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
