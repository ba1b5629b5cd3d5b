"""Upload and download through a real embedded server, against a plain copy of the same files.

    python benchmarks/storage/run.py [--rounds 5] [--folder DIR]

The three ways take turns in each round, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.snapshots import download_snapshot, upload_folder

MIB = 1024 * 1024
PASSWORD = "a long enough password"


class UrlClient(ApiClient):
    """Sees no paths of the store, like a client on another machine."""

    def missing_chunks(self, project: str, chunks: Sequence[m.ChunkRef]) -> list[m.ChunkLocation]:
        return _without_paths(super().missing_chunks(project, chunks))

    def chunk_sources(self, project: str, chunks: Sequence[m.ChunkRef]) -> list[m.ChunkLocation]:
        return _without_paths(super().chunk_sources(project, chunks))


def _without_paths(locations: list[m.ChunkLocation]) -> list[m.ChunkLocation]:
    return [location.model_copy(update={"path": None}) for location in locations]


@contextlib.contextmanager
def server(home: Path) -> Iterator[str]:
    """A control plane of its own; gives its address."""
    home.mkdir(mode=0o700)
    command = [sys.executable, "-m", "periflow_server", "serve", "--embedded", "--home", str(home)]
    with (home / "output.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "PERIFLOW_HOME": str(home)}
        )
    try:
        ready = home / "server/server.json"
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield json.loads(ready.read_text())["url"]
    finally:
        process.terminate()
        process.wait(10)


def sign_up(url: str, home: Path) -> str:
    """A new user's token."""
    with ApiClient(url) as client:
        client.sign_up(
            m.SignupRequest(username="bench", name="B", email="b@example.com", password=PASSWORD)
        )
        (mail,) = (home / "server/outbox").glob("*.eml")
        fields = dict(line.split(": ", 1) for line in mail.read_text().splitlines() if ": " in line)
        code = fields["X-PeriFlow-Code"]
        return client.confirm_signup(m.SignupConfirmation(username="bench", code=code)).access_token


def make_large(root: Path) -> Path:
    root.mkdir()
    with (root / "weights.bin").open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(16 * MIB))
    return root


def make_many(root: Path) -> Path:
    for number in range(20_000):
        path = root / f"{number // 200:03}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(10_000))
    return root


def warm_page_cache(folder: Path, size: int) -> None:
    """Give every turn the same start: nothing left to write back, and free memory in use before.

    A virtual machine takes memory it never used from its host, which costs more than the write.
    """
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        for _ in range(-(-size // (16 * MIB)) + 8):
            file.write(bytes(16 * MIB))
    os.sync()
    ballast.unlink()


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Case:
    """One source, measured by turns."""

    def __init__(self, name: str, source: Path, token: str, url: str, home: Path) -> None:
        self.name = name
        self.source = source
        self.size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
        self.seconds: dict[str, list[float]] = {}
        self._home = home
        self._clients = {"http": UrlClient(url, token), "direct": ApiClient(url, token)}
        self._organization = self._clients["http"].organizations()[0].id

    def round(self, number: int, folder: Path) -> None:
        """A copy, and up and down by each way."""
        target = folder / "copy"
        self._measure("copy", folder, lambda: shutil.copytree(self.source, target))
        shutil.rmtree(target)
        for way, client in self._clients.items():
            # A new project has no chunks: everything is sent each time.
            label = f"{way}-{len(self.source.name)}-{number}"
            project = client.create_project(self._organization, label).id
            self._go_and_return(way, client, project, folder)
            shutil.rmtree(self._home / "server/storage/chunks" / project)

    def _go_and_return(self, way: str, client: ApiClient, project: str, folder: Path) -> None:
        target = folder / "back"
        found: list[str] = []

        def up() -> None:
            found.append(upload_folder(client, project, self.source, keep_name=False).id)

        def down() -> None:
            download_snapshot(client, project, found[0], target)

        self._measure(f"upload {way}", folder, up)
        self._measure(f"download {way}", folder, down)
        shutil.rmtree(target)

    def _measure(self, what: str, folder: Path, work: Callable[[], object]) -> None:
        warm_page_cache(folder, self.size)
        self.seconds.setdefault(what, []).append(timed(work))

    def rows(self) -> Iterator[str]:
        plain = statistics.median(self.seconds["copy"])
        for what, all_seconds in self.seconds.items():
            seconds = statistics.median(all_seconds)
            rate = self.size / seconds / 1e6
            spread = f"{min(all_seconds):.2f}-{max(all_seconds):.2f}"
            yield (
                f"| {self.name} | {what} | {seconds:.2f} | {spread} | {rate:.0f} "
                f"| {seconds / plain:.2f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        home = folder / "home"
        with server(home) as url:
            token = sign_up(url, home)
            with ApiClient(url, token) as client:
                client.create_organization("bench")
            cases = [
                Case("1 GiB, one file", make_large(folder / "large"), token, url, home),
                Case("20,000 x 10 kB", make_many(folder / "many"), token, url, home),
            ]
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for number in range(options.rounds):
                for case in cases:
                    case.round(number, folder)
            added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print("| what | way | seconds (median) | range | MB/s | against the copy |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in cases:
        print("\n".join(case.rows()))
    print(f"\nMemory added by all transfers together: {added / 1000:.0f} MB.")


if __name__ == "__main__":
    main()
