"""A dataset that PeriFlow keeps: chunks by signed URL, cached by their hash."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from periflow_sdk.api.client import ApiClient
from periflow_sdk.data.cache import Cache
from periflow_sdk.data.partial import PartialFile
from periflow_sdk.data.process import PerProcess
from periflow_sdk.data.source import DataFile, read_slices
from periflow_sdk.snapshots.chunkread import read_chunks
from periflow_sdk.snapshots.download import download_snapshot, read_manifest
from periflow_sdk.snapshots.manifest import Chunk, Extent, FileEntry, LinkEntry, Manifest
from periflow_sdk.snapshots.store import write_all

_TREE = "data"
_LINKS_FOLLOWED = 8
_WORKERS = 4
_Slice = tuple[int, int, int, int]
"""Which span, which piece of it, and the offset and length in the chunk."""


class ManagedSource:
    """A snapshot, read through the node's cache.

    A file of whole chunks goes from the store into its own place; of small ones the chunk is kept
    that they share, so that its other files are there at once.

    Args:
        url: The dataset's ``pf://`` address.
        connect: Makes a client of the control plane; called in each process.
        project: Id of the project that the snapshot belongs to.
        snapshot_id: Which snapshot.
        cache: Where it is kept.
    """

    def __init__(
        self,
        url: str,
        connect: Callable[[], ApiClient],
        project: str,
        snapshot_id: str,
        cache: Cache,
    ) -> None:
        self.url = url
        self._client = PerProcess(connect)
        self._project = project
        self._snapshot_id = snapshot_id
        self._cache = cache
        self._folder: Path | None = None

    @property
    def storage_options(self) -> dict[str, Any]:
        return {}

    def files(self) -> Sequence[DataFile]:
        return [DataFile(path, entry.size, entry.hash) for path, entry in self._entries.items()]

    def folder(self) -> Path:
        def fill(target: Path) -> None:
            download_snapshot(self._client(), self._project, self._snapshot_id, target)

        size = self._manifest.size
        self._folder = self._cache.obtain(self._snapshot_id, _TREE, size, fill, self.url)
        return self._folder

    def fetch(self, file: DataFile) -> Path:
        if (whole := self._in_folder(file)) is not None:
            return whole
        entry = self._entries[file.path]
        name = posixpath.basename(file.path)
        return self._cache.obtain(
            entry.hash, name, entry.size, lambda target: self._assemble(entry, target)
        )

    def read(self, files: Sequence[DataFile]) -> list[bytes]:
        if (root := self._in_folder(None)) is not None:
            return [(root / file.path).read_bytes() for file in files]
        spans = [(self._entries[file.path], 0, file.size) for file in files]
        return self._read_spans(spans)

    def expect(self, files: Sequence[DataFile]) -> None:
        """A chunk that is read has its neighbours with it."""

    def read_range(self, file: DataFile, start: int, end: int) -> bytes:
        entry = self._entries[file.path]
        whole = self._in_folder(file)
        if whole is None:
            whole = self._cache.find(entry.hash, posixpath.basename(file.path), entry.size)
        if whole is not None:
            return read_slices(whole, [(start, end - start)])[0]
        return self._read_spans([(entry, start, end)])[0]

    @cached_property
    def _manifest(self) -> Manifest:
        def fill(target: Path) -> None:
            manifest = read_manifest(self._client(), self._project, self._snapshot_id)
            temporary = target.with_name(".manifest.new")
            temporary.write_bytes(manifest.to_bytes())
            temporary.rename(target)

        path = self._cache.obtain(f"{self._snapshot_id}-manifest", "manifest.json", 0, fill)
        return Manifest.parse(path.read_bytes())

    @cached_property
    def _entries(self) -> Mapping[str, FileEntry]:
        """Every file by its path, and every link to one, sorted."""
        files = {entry.path: entry for entry in self._manifest.files}
        links = {e.path: e.target for e in self._manifest.entries if isinstance(e, LinkEntry)}
        for path in links:
            if (found := _followed(path, links, files)) is not None:
                files[path] = found
        return dict(sorted(files.items()))

    def _in_folder(self, file: DataFile | None) -> Path | None:
        """The file (None: the folder) where the whole dataset is on the disk; None where not."""
        root = self._folder or self._cache.find(self._snapshot_id, _TREE)
        self._folder = root
        return root / file.path if root is not None and file is not None else root

    def _assemble(self, entry: FileEntry, target: Path) -> None:
        """Make a file of its chunks."""
        if len(entry.extents) <= 1:
            temporary = target.with_name(f".{target.name}.part")
            temporary.write_bytes(self._read_spans([(entry, 0, entry.size)])[0])
            temporary.chmod(0o644)
            temporary.rename(target)
            return
        places: dict[Chunk, list[tuple[int, Extent]]] = {}
        starts = []
        offset = 0
        for extent in entry.extents:
            places.setdefault(self._manifest.chunks[extent.chunk], []).append((offset, extent))
            starts.append(offset)
            offset += extent.length
        with PartialFile(target, entry.size, starts) as part:
            missing = {start for start, _ in part.missing}
            wanted = [c for c, at in places.items() if any(start in missing for start, _ in at)]

            def take(chunk: Chunk, content: memoryview) -> None:
                for start, extent in places[chunk]:
                    part.write(start, content[extent.offset : extent.offset + extent.length])

            read_chunks(self._client(), self._project, wanted, take)

    def _read_spans(self, spans: Sequence[tuple[FileEntry, int, int]]) -> list[bytes]:
        """Bytes of files from their chunks, each of which is fetched and opened once.

        Args:
            spans: Files, each with the first byte and the one after the last.
        """
        wanted: dict[int, list[_Slice]] = {}
        pieces: list[list[bytes]] = [[] for _ in spans]
        for number, (entry, start, end) in enumerate(spans):
            for extent, first, last in _overlaps(entry, start, end):
                slot = len(pieces[number])
                pieces[number].append(b"")
                wanted.setdefault(extent.chunk, []).append(
                    (number, slot, extent.offset + first, last - first)
                )

        def fill(chunk: int) -> None:
            found = self._read_chunk(chunk, [(at, length) for _, _, at, length in wanted[chunk]])
            for (number, slot, _, _), content in zip(wanted[chunk], found, strict=True):
                pieces[number][slot] = content

        if len(wanted) == 1:
            fill(next(iter(wanted)))
        elif wanted:
            with ThreadPoolExecutor(_WORKERS, thread_name_prefix="periflow-chunk") as workers:
                list(workers.map(fill, sorted(wanted)))
        return [b"".join(parts) for parts in pieces]

    def _read_chunk(self, number: int, slices: Sequence[tuple[int, int]]) -> list[bytes]:
        while True:
            path = self._chunk(self._manifest.chunks[number])
            with suppress(FileNotFoundError):  # removed for want of room
                return read_slices(path, slices)

    def _chunk(self, chunk: Chunk) -> Path:
        """A chunk as a file of the cache."""

        def fill(target: Path) -> None:
            temporary = target.with_name(".chunk.part")

            def take(_: Chunk, content: memoryview) -> None:
                file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                try:
                    write_all(file, content, 0)
                finally:
                    os.close(file)

            read_chunks(self._client(), self._project, [chunk], take)
            temporary.rename(target)

        return self._cache.obtain(f"{chunk.hash}-chunk", "chunk", chunk.size, fill)


def _overlaps(entry: FileEntry, start: int, end: int) -> Iterator[tuple[Extent, int, int]]:
    """The extents that hold a span of a file, and where in each it begins and ends."""
    offset = 0
    for extent in entry.extents:
        first, last = max(start - offset, 0), min(end - offset, extent.length)
        if first < last:
            yield extent, first, last
        offset += extent.length


def _followed(
    path: str, links: Mapping[str, str], files: Mapping[str, FileEntry]
) -> FileEntry | None:
    """The file that a link leads to."""
    for _ in range(_LINKS_FOLLOWED):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), links[path]))
        if path in files:
            return files[path]
        if path not in links:
            break
    return None
