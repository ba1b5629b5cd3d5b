"""Fetching single chunks: every one verified before it is handed on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence

from blake3 import blake3

from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import ChunkLocation, ChunkRef
from periflow_sdk.errors import ApiError, IntegrityError
from periflow_sdk.snapshots.manifest import Chunk
from periflow_sdk.snapshots.progress import Meter
from periflow_sdk.snapshots.store import local_chunk, open_chunk, read_all
from periflow_sdk.snapshots.transfer import Transfer, Tuning
from periflow_sdk.snapshots.wire import TransferFault

_ASKED_AT_ONCE = 64


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
        reading = _Reading(transfer, chunks, take)
        for _ in range(min(transfer.workers, len(chunks))):
            transfer.run(reading.work)
        transfer.join()


class _Reading:
    """Workers take chunks from a common queue."""

    def __init__(
        self,
        transfer: Transfer,
        chunks: Sequence[Chunk],
        take: Callable[[Chunk, memoryview], None],
    ) -> None:
        self._transfer = transfer
        self._take = take
        self._lock = threading.Lock()
        self._queue = self._locations(chunks)

    def work(self) -> None:
        with self._transfer.buffers.lend() as buffer:
            while not self._transfer.cancel.is_set():
                with self._lock:
                    item = next(self._queue, None)
                if item is None:
                    return
                chunk, location = item
                self._fetch(chunk, location, memoryview(buffer)[: chunk.size])

    def _locations(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, ChunkLocation]]:
        for start in range(0, len(chunks), _ASKED_AT_ONCE):
            batch = chunks[start : start + _ASKED_AT_ONCE]
            found = self._ask(batch)
            for chunk in batch:
                yield chunk, found[chunk.hash]

    def _ask(self, chunks: Sequence[Chunk]) -> dict[str, ChunkLocation]:
        refs = [ChunkRef(hash=chunk.hash, size=chunk.size) for chunk in chunks]
        try:
            locations = self._transfer.client.chunk_sources(self._transfer.project, refs)
        except ApiError as error:
            if error.code == "chunks_missing":
                raise _lost(error.data.get("missing") or ["?"]) from error
            raise
        found = {location.hash: location for location in locations}
        if lost := [chunk.hash for chunk in chunks if chunk.hash not in found]:
            raise _lost(lost)
        return found

    def _fetch(self, chunk: Chunk, location: ChunkLocation, content: memoryview) -> None:
        meter = Meter(self._transfer.progress, chunk.size)

        def once(attempt: int) -> None:
            # A fresh address after every failure: the old one may have expired.
            where = location if attempt == 0 else self._ask([chunk])[chunk.hash]
            if attempt or not self._read_local(where, content):
                self._transfer.wire.get(self._transfer.url(where), content, meter)
            if blake3(content).hexdigest() != chunk.hash:
                raise TransferFault("the bytes differ from the hash", corrupt=True)

        self._transfer.attempt(chunk.hash, once)
        self._take(chunk, content)

    def _read_local(self, location: ChunkLocation, content: memoryview) -> bool:
        path = local_chunk(location, self._transfer.client.url)
        source = open_chunk(path, content.nbytes) if path is not None else None
        if source is None:
            return False
        try:
            return read_all(source, content, 0) == content.nbytes
        except OSError:
            return False
        finally:
            os.close(source)


def _lost(names: list[str]) -> IntegrityError:
    return IntegrityError(
        f"The store has lost chunk {names[0]}.",
        code="chunks_missing",
        hint="Upload the same files again: that sends only what is missing.",
        data={"missing": names},
    )
