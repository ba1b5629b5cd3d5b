"""Sending a folder as a snapshot: hash and cut, ask what is missing, send that, commit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

from blake3 import blake3

from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import ChunkLocation, ChunkRef, Snapshot
from periflow_sdk.errors import ApiError
from periflow_sdk.snapshots.chunking import Cut, cut_files
from periflow_sdk.snapshots.hashcache import HashCache
from periflow_sdk.snapshots.ignore import IgnoreRules
from periflow_sdk.snapshots.manifest import Chunk, Entry, Extent, FileEntry, Manifest
from periflow_sdk.snapshots.progress import Meter, Progress
from periflow_sdk.snapshots.reading import LargeFile, changed, opened, read_cut
from periflow_sdk.snapshots.scan import Plan, plan_files, plan_folder
from periflow_sdk.snapshots.store import local_chunk, write_chunk
from periflow_sdk.snapshots.transfer import Transfer, Tuning, disk_full, is_full

_ASKED_AT_ONCE = 512
_HELD_AT_ONCE = 3
_COMMITS = 3


def upload_folder(
    client: ApiClient,
    project: str,
    source: Path,
    *,
    keep_name: bool,
    ignore: IgnoreRules | None = None,
    state_dir: Path | None = None,
    progress: Progress | None = None,
    plan: Plan | None = None,
    tuning: Tuning | None = None,
) -> Snapshot:
    """Store a folder (or a single file) as a snapshot; run again, it sends only what is missing.

    Args:
        client: The control plane.
        project: Id of the project it belongs to.
        source: The folder or file.
        keep_name: Whether the folder's own name is the first part of every path.
        ignore: What to leave out; None takes everything.
        state_dir: Where hashes of unchanged files are kept between runs; None keeps none.
        progress: Told of every byte.
        plan: What `plan_folder` said about the same source, if it was asked before.

    Raises:
        NotFoundError: there is no such folder or file.
        UnsafePathError: a link leads out, or a name is not UTF-8.
        PeriFlowError: a file changed while it was read (``file_changed``), is unreadable, or
            the store did not take a chunk in several tries (``transfer_failed``).
    """
    chosen = plan or plan_folder(source, ignore, keep_name=keep_name)
    with HashCache(state_dir, os.path.abspath(source)) as cache:  # noqa: PTH100
        return _upload(client, project, chosen, cache, progress, tuning or Tuning())


def upload_files(
    client: ApiClient,
    project: str,
    files: Mapping[str, Path],
    *,
    progress: Progress | None = None,
    tuning: Tuning | None = None,
) -> Snapshot:
    """Store files from several places as one snapshot.

    Args:
        files: Relative POSIX path in the snapshot → the file on disk (no links, no folders).

    Raises:
        As `upload_folder`.
    """
    with HashCache(None, "") as cache:
        return _upload(client, project, plan_files(files), cache, progress, tuning or Tuning())


def _upload(
    client: ApiClient,
    project: str,
    plan: Plan,
    cache: HashCache,
    progress: Progress | None,
    tuning: Tuning,
) -> Snapshot:
    with Transfer(client, project, progress, tuning) as transfer:
        upload = _Upload(transfer, plan, cache)
        upload.send_content()
        return upload.commit()


@dataclass(slots=True)
class _Ready:
    """A chunk whose hash is known; ``buffer`` holds it if it was read just now."""

    cut: Cut
    hash: str
    buffer: mmap | None


class _Upload:
    """One upload: this thread reads and hashes, the transfer's workers send."""

    def __init__(self, transfer: Transfer, plan: Plan, cache: HashCache) -> None:
        self._transfer = transfer
        self._plan = plan
        self._cache = cache
        self._files = plan.files
        self._file_hashes: dict[int, str] = {}
        self._cuts: list[_Ready] = []
        self._by_hash: dict[str, Cut] = {}
        self._batch: list[_Ready] = []

    def send_content(self) -> None:
        """Bring every chunk that the store lacks there."""
        self._transfer.progress.total(self._plan.size, self._plan.file_count)
        for group in cut_files(self._files):
            known = self._known(group)
            if known is not None:
                for cut, hashes in zip(group, known, strict=True):
                    self._add(cut, hashes, None)
            elif len(group) == 1:
                self._read_pack(group[0])
            else:
                self._read_large(group)
        self._flush()
        self._transfer.join()

    def commit(self) -> Snapshot:
        """Publish the manifest; chunks that vanished meanwhile are sent again."""
        manifest = self._manifest().to_bytes()

        def publish() -> Snapshot:
            return self._transfer.client.commit_snapshot(self._transfer.project, manifest)

        for _ in range(_COMMITS - 1):
            try:
                return self._transfer.ask(publish)
            except ApiError as error:
                if error.code != "chunks_missing":
                    raise
                self._send_again(str(name) for name in error.data.get("missing", ()))
        return self._transfer.ask(publish)

    def _known(self, group: Sequence[Cut]) -> list[list[str]] | None:
        found = []
        for cut in group:
            hashes = self._cache.find(cut, self._files)
            if hashes is None:
                return None
            found.append(hashes)
        return found

    def _read_pack(self, cut: Cut) -> None:
        buffer = self._transfer.buffers.take()
        hashes = read_cut(cut, self._files, memoryview(buffer))
        self._cache.remember(cut, self._files, hashes)
        self._add(cut, hashes, buffer)

    def _read_large(self, group: Sequence[Cut]) -> None:
        file = self._files[group[0].segments[0].file]
        with opened(file) as descriptor:
            large = LargeFile(descriptor, file)
            for cut in group:
                buffer = self._transfer.buffers.take()
                hashes = large.read(cut, memoryview(buffer))
                self._cache.remember(cut, self._files, hashes)
                self._add(cut, hashes, buffer)

    def _add(self, cut: Cut, hashes: list[str], buffer: mmap | None) -> None:
        ends = cut.files_ending(self._files)
        self._file_hashes.update(zip(ends, hashes[1:], strict=True))
        ready = _Ready(cut, hashes[0], buffer)
        self._cuts.append(ready)
        if ready.hash in self._by_hash:
            self._skip(ready)
            return
        self._by_hash[ready.hash] = cut
        self._batch.append(ready)
        held = sum(1 for waiting in self._batch if waiting.buffer is not None)
        if held >= _HELD_AT_ONCE or len(self._batch) >= _ASKED_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Ask which of the batch are missing and have those sent, the ones in memory first."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        refs = [ChunkRef(hash=ready.hash, size=ready.cut.size) for ready in batch]
        missing = {location.hash: location for location in self._missing(refs)}
        for ready in sorted(batch, key=lambda ready: ready.buffer is None):
            location = missing.get(ready.hash)
            if location is None:
                self._skip(ready)
            else:
                self._dispatch(ready, location)

    def _dispatch(self, ready: _Ready, location: ChunkLocation) -> None:
        # The buffer is taken here: workers that wait for one could wait for each other.
        stale = ready.buffer is None
        buffer = ready.buffer if ready.buffer is not None else self._transfer.buffers.take()
        ready.buffer = None
        cut, name = ready.cut, ready.hash

        def work() -> None:
            try:
                view = memoryview(buffer)[: cut.size]
                if stale and read_cut(cut, self._files, view)[0] != name:
                    raise changed(self._files[cut.segments[0].file])
                self._send(name, location, view)
            finally:
                self._transfer.buffers.give(buffer)

        if (
            self._transfer.is_gentle
            and local_chunk(location, self._transfer.client.url) is not None
        ):
            work()
        else:
            self._transfer.run(work)

    def _send(self, name: str, location: ChunkLocation, body: memoryview) -> None:
        meter = Meter(self._transfer.progress, body.nbytes)

        def once(number: int) -> None:
            # A fresh address after every failure: the old one may have expired.
            where = location if number == 0 else self._locate(name, body.nbytes)
            if where is not None and not self._write(where, body):
                self._transfer.wire.put(self._transfer.url(where), where.headers, body, meter)

        self._transfer.attempt(name, once)
        meter.finish()

    def _write(self, location: ChunkLocation, body: memoryview) -> bool:
        """Put the chunk straight into a store on this machine; False where that cannot be."""
        path = self._local(location)
        if path is None:
            return False
        try:
            write_chunk(path, body, is_gentle=self._transfer.is_gentle)
        except OSError as error:
            if is_full(error):
                raise disk_full(path.parent, body.nbytes) from error
            return False
        return True

    def _local(self, location: ChunkLocation) -> Path | None:
        return local_chunk(location, self._transfer.client.url)

    def _locate(self, name: str, size: int) -> ChunkLocation | None:
        """Where to put the chunk now; None when it has arrived meanwhile."""
        found = self._missing([ChunkRef(hash=name, size=size)])
        return found[0] if found else None

    def _missing(self, refs: Sequence[ChunkRef]) -> list[ChunkLocation]:
        client, project = self._transfer.client, self._transfer.project
        return self._transfer.ask(lambda: client.missing_chunks(project, refs))

    def _skip(self, ready: _Ready) -> None:
        self._transfer.progress.skipped(ready.cut.size)
        if ready.buffer is not None:
            self._transfer.buffers.give(ready.buffer)
            ready.buffer = None

    def _send_again(self, names: Iterable[str]) -> None:
        self._batch = [
            _Ready(self._by_hash[name], name, None) for name in names if name in self._by_hash
        ]
        self._flush()
        self._transfer.join()

    def _manifest(self) -> Manifest:
        numbers = {name: number for number, name in enumerate(self._by_hash)}
        chunks = tuple(Chunk(name, cut.size) for name, cut in self._by_hash.items())
        extents: dict[int, list[Extent]] = {}
        for ready in self._cuts:
            position = 0
            for part in ready.cut.segments:
                extent = Extent(numbers[ready.hash], position, part.length)
                extents.setdefault(part.file, []).append(extent)
                position += part.length
        empty = blake3(b"").hexdigest()
        entries: list[Entry] = [*self._plan.folders, *self._plan.links]
        for number, file in enumerate(self._files):
            name = self._file_hashes.get(number, empty)
            found = tuple(extents.get(number, ()))
            entries.append(FileEntry(file.path, file.size, file.mode, name, found))
        return Manifest(chunks, tuple(sorted(entries, key=lambda entry: entry.path)))
