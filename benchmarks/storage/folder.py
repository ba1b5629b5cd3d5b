"""A store that is a folder, over HTTP and directly, against a plain copy of the same files."""

from __future__ import annotations

import resource
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from place import control_plane
from source import Source, warm_page_cache

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.snapshots import download_snapshot, upload_folder


class UrlClient(ApiClient):
    """Sees no paths of the store, like a client on another machine."""

    def missing_chunks(self, project: str, chunks: Sequence[m.ChunkRef]) -> list[m.ChunkLocation]:
        return _without_paths(super().missing_chunks(project, chunks))

    def chunk_sources(self, project: str, chunks: Sequence[m.ChunkRef]) -> list[m.ChunkLocation]:
        return _without_paths(super().chunk_sources(project, chunks))


def _without_paths(locations: list[m.ChunkLocation]) -> list[m.ChunkLocation]:
    return [location.model_copy(update={"path": None}) for location in locations]


def compare_with_copy(sources: list[Source], folder: Path, rounds: int) -> Iterator[str]:
    """The lines of a table."""
    home = folder / "home"
    with control_plane(home) as (url, token):
        cases = [_Case(source, url, token, home) for source in sources]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(rounds):
            for case in cases:
                case.round(number, folder)
        added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    yield "| what | way | seconds (median) | range | MB/s | against the copy |"
    yield "| --- " * 6 + "|"
    for case in cases:
        yield from case.rows()
    yield f"\nMemory added by all transfers together: {added / 1000:.0f} MB."


class _Case:
    """One source, measured by turns."""

    def __init__(self, source: Source, url: str, token: str, home: Path) -> None:
        self._source = source
        self._seconds: dict[str, list[float]] = {}
        self._home = home
        self._clients = {"http": UrlClient(url, token), "direct": ApiClient(url, token)}
        self._organization = self._clients["http"].organizations()[0].id

    def round(self, number: int, folder: Path) -> None:
        """A copy, and up and down by each way."""
        target = folder / "copy"
        self._measure("copy", folder, lambda: shutil.copytree(self._source.folder, target))
        shutil.rmtree(target)
        for way, client in self._clients.items():
            # A new project has no chunks: everything is sent each time.
            label = f"{way}-{self._source.label}-{number}"
            project = client.create_project(self._organization, label).id
            self._go_and_return(way, client, project, folder)
            shutil.rmtree(self._home / "server/storage/chunks" / project)

    def _go_and_return(self, way: str, client: ApiClient, project: str, folder: Path) -> None:
        target = folder / "back"
        found: list[str] = []

        def up() -> None:
            snapshot = upload_folder(client, project, self._source.folder, keep_name=False)
            found.append(snapshot.id)

        def down() -> None:
            download_snapshot(client, project, found[0], target)

        self._measure(f"upload {way}", folder, up)
        self._measure(f"download {way}", folder, down)
        shutil.rmtree(target)

    def _measure(self, what: str, folder: Path, work: Callable[[], object]) -> None:
        warm_page_cache(folder, self._source.size)
        start = time.perf_counter()
        work()
        self._seconds.setdefault(what, []).append(time.perf_counter() - start)

    def rows(self) -> Iterator[str]:
        plain = statistics.median(self._seconds["copy"])
        for what, all_seconds in self._seconds.items():
            seconds = statistics.median(all_seconds)
            rate = self._source.size / seconds / 1e6
            spread = f"{min(all_seconds):.2f}-{max(all_seconds):.2f}"
            yield (
                f"| {self._source.name} | {what} | {seconds:.2f} | {spread} | {rate:.0f} "
                f"| {seconds / plain:.2f} |"
            )
