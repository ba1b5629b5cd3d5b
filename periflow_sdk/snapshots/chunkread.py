"""Fetching chunks: in parallel, every one verified before it is handed on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing

from blake3 import blake3

from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import ChunkLocation, ChunkRef
from periflow_sdk.errors import ApiError, IntegrityError
from periflow_sdk.snapshots.manifest import Chunk
from periflow_sdk.snapshots.progress import Meter
from periflow_sdk.snapshots.store import local_chunk, open_chunk, read_all
from periflow_sdk.snapshots.transfer import Transfer, Tuning
from periflow_sdk.snapshots.wire import PIECE_BYTES, TransferFault

_ASKED_AT_ONCE = 64
Take = Callable[[int, memoryview, "int | None"], None]
"""Is handed a chunk: its place in the sequence, its bytes, and where it was a file of the store on
this machine a descriptor of that. Called in any order and from several threads; the memory is used
again after."""

Write = Callable[[memoryview, int], None]
"""Is handed some bytes of a chunk and where in it they begin."""

Pour = Callable[[int], "AbstractContextManager[Write] | None"]
"""What takes a chunk, by its place in the sequence, while it comes and before it is verified: it is
what was asked for once the block ends without an error. None for one that shall be whole first."""


def read_chunks(
    client: ApiClient,
    project: str,
    chunks: Sequence[Chunk],
    take: Callable[[Chunk, memoryview], None],
    tuning: Tuning | None = None,
) -> None:
    """Fetch chunks in parallel.

    Args:
        client: The control plane.
        project: Id of the project that the chunks belong to.
        chunks: Which ones.
        take: Called in any order and from several threads, with memory that is used again after.

    Raises:
        IntegrityError: the store has lost one, or keeps sending other bytes.
        PeriFlowError: the store does not deliver (``transfer_failed``); what ``take`` raises.
    """
    with Transfer(client, project, None, tuning or Tuning()) as transfer:
        fetch_chunks(transfer, chunks, lambda number, content, _: take(chunks[number], content))


def fetch_chunks(
    transfer: Transfer,
    chunks: Sequence[Chunk],
    take: Take,
    weigh: Callable[[int], int] | None = None,
    pour: Pour | None = None,
) -> None:
    """Fetch chunks by the workers of a transfer.

    Args:
        take: Gets those that ``pour`` does not want, and all that lie on this machine.
        weigh: The bytes of progress that a chunk stands for, by its place in the sequence; its
            size without.

    Raises:
        As `read_chunks`.
    """
    weigh = weigh or (lambda number: chunks[number].size)
    reading = _Reading(transfer, chunks, take, weigh, pour or (lambda number: None))
    for _ in range(min(transfer.workers, len(chunks))):
        transfer.run(reading.work)
    transfer.join()


class _Reading:
    """Workers take chunks from a common queue."""

    def __init__(
        self,
        transfer: Transfer,
        chunks: Sequence[Chunk],
        take: Take,
        weigh: Callable[[int], int],
        pour: Pour,
    ) -> None:
        self._transfer = transfer
        self._chunks = chunks
        self._take = take
        self._weigh = weigh
        self._pour = pour
        self._lock = threading.Lock()
        self._queue = self._locations()

    def work(self) -> None:
        with self._transfer.buffers.lend() as buffer:
            while not self._transfer.cancel.is_set():
                with self._lock:
                    item = next(self._queue, None)
                if item is None:
                    return
                number, location = item
                self._fetch(number, location, memoryview(buffer))

    def _locations(self) -> Iterator[tuple[int, ChunkLocation]]:
        """Where to fetch each from, asked for in batches just before they are needed."""
        for start in range(0, len(self._chunks), _ASKED_AT_ONCE):
            batch = self._chunks[start : start + _ASKED_AT_ONCE]
            found = self._ask(batch)
            for number, chunk in enumerate(batch, start):
                yield number, found[chunk.hash]

    def _ask(self, chunks: Sequence[Chunk]) -> dict[str, ChunkLocation]:
        client, project = self._transfer.client, self._transfer.project
        refs = [ChunkRef(hash=chunk.hash, size=chunk.size) for chunk in chunks]
        try:
            locations = self._transfer.ask(lambda: client.chunk_sources(project, refs))
        except ApiError as error:
            if error.code == "chunks_missing":
                raise _lost(error.data.get("missing") or ["?"]) from error
            raise
        found = {location.hash: location for location in locations}
        if lost := [chunk.hash for chunk in chunks if chunk.hash not in found]:
            raise _lost(lost)
        return found

    def _fetch(self, number: int, location: ChunkLocation, buffer: memoryview) -> None:
        chunk = self._chunks[number]
        meter = Meter(self._transfer.progress, self._weigh(number))

        def once(attempt: int) -> None:
            # A fresh address after every failure: the old one may have expired.
            where = location if attempt == 0 else self._ask([chunk])[chunk.hash]
            source = self._open_local(where, chunk.size) if attempt == 0 else None
            if source is None:
                self._receive(number, where, buffer, meter)
                return
            try:
                self._read(number, source, buffer[: chunk.size])
            finally:
                os.close(source)

        self._transfer.attempt(chunk.hash, once)
        meter.finish()

    def _receive(
        self, number: int, location: ChunkLocation, buffer: memoryview, meter: Meter
    ) -> None:
        """Bring a chunk over the network, hashing each piece while the cache has it."""
        chunk, url = self._chunks[number], self._transfer.url(location)
        poured = self._pour(number)
        if poured is None:
            content = buffer[: chunk.size]
            with closing(self._transfer.wire.get(url, chunk.size, content, meter)) as pieces:
                _verify(chunk, pieces)
            self._take(number, content, None)
            return
        small = buffer[:PIECE_BYTES]
        with (
            poured as write,
            closing(self._transfer.wire.get(url, chunk.size, small, meter)) as pieces,
        ):
            _verify(chunk, pieces, write)

    def _read(self, number: int, source: int, content: memoryview) -> None:
        """Read a chunk of a store on this machine."""
        try:
            read_all(source, content, 0)
        except OSError as error:
            raise TransferFault(f"the store's disk says: {error}") from error
        _verify(self._chunks[number], [content])
        self._take(number, content, source)

    def _open_local(self, location: ChunkLocation, size: int) -> int | None:
        path = local_chunk(location, self._transfer.client.url)
        return open_chunk(path, size) if path is not None else None


def _lost(names: list[str]) -> IntegrityError:
    return IntegrityError(
        f"The store has lost chunk {names[0]}.",
        code="chunks_missing",
        hint="Upload the same files again: that sends only what is missing.",
        data={"missing": names},
    )


def _verify(chunk: Chunk, pieces: Iterable[memoryview], write: Write | None = None) -> None:
    """Raise unless these bytes are the chunk's.

    Args:
        write: Gets each piece, too.
    """
    digest = blake3()
    position = 0
    for piece in pieces:
        digest.update(piece)
        if write is not None:
            write(piece, position)
        position += piece.nbytes
    if digest.hexdigest() != chunk.hash:
        raise TransferFault("the bytes differ from the hash", corrupt=True)
