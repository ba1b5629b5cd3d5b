"""Stores to test against: the real server both ways, and a small one that goes wrong on order."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from chunk_server import ChunkServer

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.snapshots import upload_folder
from periflow_sdk.snapshots.transfer import Tuning


class UrlClient(ApiClient):
    """A client that is on another machine, as it were: it sees no paths of the store."""

    def missing_chunks(self, project: str, chunks: Any) -> list[m.ChunkLocation]:
        return _without_paths(super().missing_chunks(project, chunks))

    def chunk_sources(self, project: str, chunks: Any) -> list[m.ChunkLocation]:
        return _without_paths(super().chunk_sources(project, chunks))


def _without_paths(locations: list[m.ChunkLocation]) -> list[m.ChunkLocation]:
    return [location.model_copy(update={"path": None}) for location in locations]


class Tally:
    """A progress that adds up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.size = self.files = self.sent = self.kept = 0

    def total(self, size: int, files: int) -> None:
        self.size, self.files = size, files

    def advance(self, size: int) -> None:
        assert size > 0
        with self._lock:
            self.sent += size

    def skipped(self, size: int) -> None:
        with self._lock:
            self.kept += size


@dataclass
class Place:
    """A project of a store: what the engine is given."""

    client: ApiClient
    project: str
    chunk_dir: Path

    def stored(self) -> set[str]:
        """The chunks that are whole in the store."""
        return {path.name for path in self.chunk_dir.glob("??/*") if path.name[0] != "."}


@pytest.fixture(params=["direct", "http"])
def place(request: pytest.FixtureRequest, server: Any) -> Iterator[Place]:
    """A new project of a real server, reached by its files and by its URLs."""
    owner = server.client()
    kind = ApiClient if request.param == "direct" else UrlClient
    with kind(server.url, owner.session.access_token) as client:
        yield Place(client, owner.project, server.data_dir / "storage/chunks" / owner.project)


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[ChunkServer]:
    """The server that goes wrong on order; it announces no paths until told to."""
    server = ChunkServer(tmp_path / "store")
    yield server
    server.close()


@pytest.fixture
def small_client(small_server: ChunkServer) -> Iterator[ApiClient]:
    with ApiClient(small_server.url, tries=1) as client:
        yield client


@pytest.fixture
def quick() -> Tuning:
    """Tries again at once and takes a stall for one early."""
    return Tuning(stall_seconds=0.5, backoff_seconds=0.01)


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def listing() -> Callable[[Path], dict[str, tuple[object, ...]]]:
    """Everything that must survive a round trip: kinds, modes, bytes and link targets."""
    return _listing


def _listing(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder", mode)
        else:
            found[name] = ("file", mode, status.st_size, _digest(path))
    return found


def _digest(path: Path) -> str:
    return blake3(max_threads=1).update_mmap(path).hexdigest()


@pytest.fixture
def watch() -> Callable[[subprocess.Popen[bytes], Callable[[], object]], None]:
    """Waits until something is true while a process runs."""

    def _watch(process: subprocess.Popen[bytes], condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)

    return _watch


@pytest.fixture
def start_process() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts Python code in a process of its own, which a test may kill."""
    started: list[subprocess.Popen[bytes]] = []

    def _start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-c", code, *map(str, arguments)]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield _start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def weights() -> bytes:
    """Five chunks."""
    return os.urandom(65 * 2**20)


@pytest.fixture
def big(tmp_path: Path, weights: bytes) -> Path:
    """A file of five chunks in a folder."""
    (tmp_path / "big").mkdir()
    (tmp_path / "big/weights.bin").write_bytes(weights)
    return tmp_path / "big"


@pytest.fixture
def stored(small_client: ApiClient, big: Path) -> m.Snapshot:
    """The big folder, stored on the small server."""
    return upload_folder(small_client, "p", big, keep_name=False)
