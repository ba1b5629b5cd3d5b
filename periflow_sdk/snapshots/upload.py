"""Sending a folder as a snapshot: hash and cut, ask what is missing, send that, commit."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterable, Mapping, Sequence
from mmap import mmap
from pathlib import Path

from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import ChunkLocation, ChunkRef, Snapshot
from periflow_sdk.errors import ApiError
from periflow_sdk.snapshots.buffer import Cancelled
from periflow_sdk.snapshots.chunking import Cut, cut_files
from periflow_sdk.snapshots.hashcache import HashCache
from periflow_sdk.snapshots.ignore import IgnoreRules
from periflow_sdk.snapshots.piece import Piece, manifest_of
from periflow_sdk.snapshots.progress import Meter, Progress
from periflow_sdk.snapshots.reading import changed, read_cut
from periflow_sdk.snapshots.scan import Plan, plan_files, plan_folder
from periflow_sdk.snapshots.store import local_chunk, write_chunk
from periflow_sdk.snapshots.transfer import Transfer, Tuning, disk_full, is_full

_ASKED_AT_ONCE = 512
_HELD_AT_ONCE = 4
_COMMITS = 3
_GLANCE_SECONDS = 0.2


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


class _Upload:
    """One upload: this thread asks what is missing, readers of the transfer hash, workers send."""

    def __init__(self, transfer: Transfer, plan: Plan, cache: HashCache) -> None:
        self._transfer = transfer
        self._plan = plan
        self._cache = cache
        self._files = plan.files
        self._file_hashes: dict[int, str] = {}
        self._pieces: list[Piece] = []
        self._by_hash: dict[str, Cut] = {}
        self._batch: list[Piece] = []
        self._enough = 1
        self._reading = self._sending = 0
        # What workers report: a piece was read, with its hashes, or one was sent (None).
        self._reports: queue.SimpleQueue[tuple[Piece, list[str]] | None] = queue.SimpleQueue()

    def send_content(self) -> None:
        """Bring every chunk that the store lacks there."""
        self._transfer.progress.total(self._plan.size, self._plan.file_count)
        for cut in cut_files(self._files):
            piece = Piece(cut)
            self._pieces.append(piece)
            known = self._cache.find(cut, self._files)
            if known is not None:
                self._add(piece, known)
            else:
                self._read(piece)
        while self._reading:
            self._turn()
        self._flush()
        self._transfer.join()

    def commit(self) -> Snapshot:
        """Publish the manifest; chunks that vanished meanwhile are sent again."""
        manifest = manifest_of(self._plan, self._pieces, self._file_hashes).to_bytes()

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

    def _read(self, piece: Piece) -> None:
        """Have a piece read and hashed as soon as there is memory for it."""
        piece.buffer = buffer = self._buffer()
        self._reading += 1

        def work() -> None:
            hashes = read_cut(piece.cut, self._files, memoryview(buffer))
            self._cache.remember(piece.cut, self._files, hashes)
            self._reports.put((piece, hashes))

        if self._transfer.is_gentle:
            work()
        else:
            self._transfer.read(work)
        while not self._reports.empty():
            self._turn()

    def _buffer(self) -> mmap:
        """A free buffer; while there is none, what has been read goes on its way.

        As long as every worker has something to send, more of it is asked about at once.
        """
        while (buffer := self._transfer.buffers.poll()) is None:
            if not self._reading and self._sending <= self._transfer.workers:
                self._flush()
            self._turn()
        return buffer

    def _turn(self) -> None:
        """Wait until one piece is read or sent.

        Raises:
            Cancelled: a worker has failed.
        """
        while True:
            try:
                report = self._reports.get(timeout=_GLANCE_SECONDS)
                break
            except queue.Empty:
                if self._transfer.cancel.is_set():
                    raise Cancelled from None
        if report is None:
            self._sending -= 1
        else:
            self._reading -= 1
            self._add(*report)

    def _add(self, piece: Piece, hashes: list[str]) -> None:
        piece.hash = hashes[0]
        whole = piece.cut.whole_files(self._files)
        self._file_hashes.update(zip(whole, hashes[1:], strict=True))
        if piece.hash in self._by_hash:
            self._skip(piece)
            return
        self._by_hash[piece.hash] = piece.cut
        self._batch.append(piece)
        held = sum(1 for waiting in self._batch if waiting.buffer is not None)
        if held >= self._enough or len(self._batch) >= _ASKED_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Ask which of the batch are missing and have those sent, the ones in memory first."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        # The first question is for one chunk, which is on its way that much earlier.
        self._enough = min(2 * self._enough, _HELD_AT_ONCE)
        refs = [ChunkRef(hash=piece.hash, size=piece.cut.size) for piece in batch]
        missing = {location.hash: location for location in self._missing(refs)}
        for piece in sorted(batch, key=lambda piece: piece.buffer is None):
            location = missing.get(piece.hash)
            if location is None:
                self._skip(piece)
            else:
                self._dispatch(piece, location)

    def _dispatch(self, piece: Piece, location: ChunkLocation) -> None:
        # The buffer is taken here: workers that wait for one could wait for each other.
        stale = piece.buffer is None
        buffer = piece.buffer if piece.buffer is not None else self._buffer()
        piece.buffer = None
        cut, name = piece.cut, piece.hash
        self._sending += 1

        def work() -> None:
            try:
                view = memoryview(buffer)[: cut.size]
                if stale and read_cut(cut, self._files, view)[0] != name:
                    raise changed(self._files[cut.segments[0].file])
                self._send(name, location, view)
            finally:
                self._transfer.buffers.give(buffer)
                self._reports.put(None)

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

    def _skip(self, piece: Piece) -> None:
        self._transfer.progress.skipped(piece.cut.size)
        if piece.buffer is not None:
            self._transfer.buffers.give(piece.buffer)
            piece.buffer = None

    def _send_again(self, names: Iterable[str]) -> None:
        self._batch = [Piece(self._by_hash[name], name) for name in names if name in self._by_hash]
        self._flush()
        self._transfer.join()
