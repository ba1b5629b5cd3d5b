"""Fetching a snapshot: every chunk verified, nothing under the final name before it is whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import ChunkLocation, ChunkRef
from periflow_sdk.errors import ApiError, IntegrityError, PeriFlowError
from periflow_sdk.snapshots.manifest import Manifest
from periflow_sdk.snapshots.partial import PartialFolder, check_target
from periflow_sdk.snapshots.progress import Meter, Progress
from periflow_sdk.snapshots.store import local_chunk, open_chunk, read_all
from periflow_sdk.snapshots.transfer import Transfer, Tuning, disk_full, free_bytes, is_full
from periflow_sdk.snapshots.wire import TransferFault

_ASKED_AT_ONCE = 64


def read_manifest(client: ApiClient, project: str, snapshot_id: str) -> Manifest:
    """Fetch and check the description of a snapshot.

    Raises:
        NotFoundError: there is no such snapshot in the project.
        UnsafePathError: a path in it could leave the target folder.
        IntegrityError: it is damaged, or not the one that was asked for.
    """
    manifest = Manifest.parse(client.manifest(project, snapshot_id))
    if len(snapshot_id) == 64 and manifest.id != snapshot_id:
        raise IntegrityError(
            f"The manifest of snapshot {snapshot_id[:12]} is not the one that was stored.",
            code="bad_manifest",
        )
    return manifest


def download_snapshot(
    client: ApiClient,
    project: str,
    snapshot_id: str,
    target: Path,
    *,
    progress: Progress | None = None,
    tuning: Tuning | None = None,
) -> Manifest:
    """Fetch a snapshot into a folder that appears only when it is whole.

    What a killed download has left in ``.<name>.part`` beside the target is used by the next.

    Args:
        client: The control plane.
        project: Id of the project that the snapshot belongs to.
        snapshot_id: Which snapshot.
        target: The folder that shall appear; it must not exist or be empty.
        progress: Told of every byte.

    Raises:
        UsageError: the target is there already (``target_exists``).
        NotFoundError: there is no such snapshot.
        UnsafePathError: the manifest holds a path that leaves the target.
        IntegrityError: a chunk stays damaged after several tries.
        PeriFlowError: the disk is full (``disk_full``), the store does not deliver
            (``transfer_failed``), or another process is at it (``download_running``).
    """
    check_target(target)
    manifest = read_manifest(client, project, snapshot_id)
    with _disk_errors(target, lambda: manifest.size):
        part = PartialFolder(target, manifest)
    with part, _disk_errors(part.target, part.missing_bytes):
        with Transfer(client, project, progress, tuning or Tuning()) as transfer:
            _Download(transfer, manifest, part).run()
        part.publish()
    return manifest


class _Download:
    """One download: workers take chunks from a common queue."""

    def __init__(self, transfer: Transfer, manifest: Manifest, part: PartialFolder) -> None:
        self._transfer = transfer
        self._manifest = manifest
        self._part = part
        self._queue = self._locations()
        self._queue_lock = threading.Lock()

    def run(self) -> None:
        """Fetch whatever is not there yet."""
        progress = self._transfer.progress
        progress.total(self._manifest.size, self._manifest.file_count)
        for number in self._part.finished:
            progress.skipped(self._weight(number))
        needed = self._part.missing_bytes()
        if needed > free_bytes(self._part.folder):
            raise disk_full(self._part.target.parent, needed)
        self._part.prepare()
        for _ in range(self._transfer.workers):
            self._transfer.run(self._work)
        self._transfer.join()

    def _locations(self) -> Iterator[tuple[int, ChunkLocation]]:
        """The chunks to fetch and where from, asked for in batches just before they are needed."""
        finished = set(self._part.finished)
        rest = [n for n in range(len(self._manifest.chunks)) if n not in finished]
        for start in range(0, len(rest), _ASKED_AT_ONCE):
            batch = rest[start : start + _ASKED_AT_ONCE]
            found = self._ask(batch)
            for number in batch:
                yield number, found[self._manifest.chunks[number].hash]

    def _ask(self, numbers: list[int]) -> dict[str, ChunkLocation]:
        chunks = [self._manifest.chunks[number] for number in numbers]
        refs = [ChunkRef(hash=chunk.hash, size=chunk.size) for chunk in chunks]
        try:
            locations = self._transfer.ask(
                lambda: self._transfer.client.chunk_sources(self._transfer.project, refs)
            )
        except ApiError as error:
            if error.code == "chunks_missing":
                raise _lost(error.data.get("missing") or ["?"]) from error
            raise
        found = {location.hash: location for location in locations}
        if lost := [chunk.hash for chunk in chunks if chunk.hash not in found]:
            raise _lost(lost)
        return found

    def _work(self) -> None:
        with self._transfer.buffers.lend() as buffer:
            while not self._transfer.cancel.is_set():
                with self._queue_lock:
                    item = next(self._queue, None)
                if item is None:
                    return
                number, location = item
                size = self._manifest.chunks[number].size
                self._fetch(number, location, memoryview(buffer)[:size])

    def _fetch(self, number: int, location: ChunkLocation, content: memoryview) -> None:
        name = self._manifest.chunks[number].hash
        meter = Meter(self._transfer.progress, self._weight(number))

        def once(attempt: int) -> None:
            # A fresh address after every failure: the old one may have expired.
            where = location if attempt == 0 else self._ask([number])[name]
            source = self._open_local(where, content.nbytes) if attempt == 0 else None
            try:
                if source is None:
                    self._transfer.wire.get(self._transfer.url(where), content, meter)
                else:
                    _read(source, content)
                if blake3(content).hexdigest() != name:
                    raise TransferFault("the bytes differ from the hash", corrupt=True)
                self._part.write(number, content, source)
            finally:
                if source is not None:
                    os.close(source)

        self._transfer.attempt(name, once)
        meter.finish()

    def _open_local(self, location: ChunkLocation, size: int) -> int | None:
        path = local_chunk(location, self._transfer.client.url)
        return open_chunk(path, size) if path is not None else None

    def _weight(self, number: int) -> int:
        """Bytes of files that this chunk stands for."""
        return sum(place.length for place in self._part.placements[number])


def _lost(names: list[str]) -> IntegrityError:
    return IntegrityError(
        f"The store has lost chunk {names[0]}.",
        code="chunks_missing",
        hint="Upload the same files again: that sends only what is missing.",
        data={"missing": names},
    )


def _read(source: int, content: memoryview) -> None:
    try:
        read_all(source, content, 0)
    except OSError as error:
        raise TransferFault(f"the store's disk says: {error}") from error


@contextmanager
def _disk_errors(target: Path, missing: Callable[[], int]) -> Iterator[None]:
    """Turns what the target's disk says into an error with the way out."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise disk_full(target.parent, missing()) from error
        raise PeriFlowError(
            f"{error.filename or target} cannot be written: {error.strerror}.",
            code="write_failed",
        ) from error
