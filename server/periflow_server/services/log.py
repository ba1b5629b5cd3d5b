"""The output of commands: taken by offset, kept compressed, read as lines."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator

from periflow_server.db import log as db
from periflow_server.db.attempt import Attempt
from periflow_server.db.base import Database, Session, lock
from periflow_server.db.log import LogBatch, LogSegment
from periflow_server.services import attempt as attempts
from periflow_server.services.journal import offset_mismatch
from periflow_server.services.text import Piece
from periflow_server.services.token import AttemptIdentity
from periflow_server.storage.key import log_key
from periflow_server.storage.store import Store

SEAL_BYTES = 256 * 1024
"""So many bytes stay in the database before they become one compressed object."""
LARGEST_TAIL_BYTES = 8 << 20
_sealing = threading.BoundedSemaphore(4)


def append(session: Session, identity: AttemptIdentity, offset: int, data: bytes) -> int:
    """Store what a node's command printed; the next offset wanted.

    Raises:
        ConflictError: it starts elsewhere (``offset_mismatch``, ``data["offset"]``).
    """
    attempts.of_agent(session, identity)
    end = db.stream_end(session, identity.attempt_id, identity.node_rank)
    if offset != end:
        raise offset_mismatch(end)
    if data:
        session.add(
            LogBatch(
                attempt_id=identity.attempt_id,
                node=identity.node_rank,
                offset=offset,
                size=len(data),
                data=data,
            )
        )
    return end + len(data)


def seal(database: Database, store: Store, identity: AttemptIdentity) -> None:
    """Make one compressed object of the batches in the database, when they have become many.

    The object is there before the row that names it, and its name says which bytes it holds: a
    crash in between, or the same work done twice, loses nothing. While others wait for the store
    it is left to the next batch: a store that does not answer shall not take all threads.
    """
    if _sealing.acquire(blocking=False):
        try:
            _seal(database, store, identity.attempt_id, identity.node_rank)
        finally:
            _sealing.release()


def _seal(database: Database, store: Store, attempt_id: str, node: int) -> None:
    with database.read() as session:
        if db.batched_bytes(session, attempt_id, node) < SEAL_BYTES:
            return
        batches = db.batches_of(session, attempt_id, node)
    data = b"".join(batch.data for batch in batches)
    offset = batches[0].offset
    key = log_key(attempt_id, f"{node}/{offset}-{len(data)}.z")
    store.put_bytes(key, zlib.compress(data, 3))
    segment = LogSegment(
        attempt_id=attempt_id,
        node=node,
        offset=offset,
        size=len(data),
        key=key,
        marks=[[batch.offset, batch.time.timestamp()] for batch in batches],
    )
    with database.write() as session:
        lock(session, session.get_one(Attempt, attempt_id))
        db.replace_batches(session, segment)


def pieces(
    session: Session, store: Store, attempt_id: str, node: int, offset: int
) -> Iterator[Piece]:
    """A node's output from the block that holds ``offset`` on."""
    expected: int | None = None
    for block in db.blocks_after(session, attempt_id, node, offset):
        if expected is not None and block.offset != expected:
            return  # just sealed by another transaction: the next reading finds it whole
        expected = block.offset + block.size
        yield _piece(store, block)


def tail_offset(session: Session, store: Store, attempt_id: str, node: int, lines: int) -> int:
    """Where the last ``lines`` lines of a node's output begin, at the start of a line.

    Later where they are very long, as output without newlines (progress bars) is: a reader takes
    all of it into memory.
    """
    newlines = size = 0
    for block in db.blocks_backwards(session, attempt_id, node):
        if size > LARGEST_TAIL_BYTES:
            return block.offset + block.size
        size += block.size
        data = _piece(store, block).data
        position = len(data)
        while (position := data.rfind(b"\n", 0, position)) >= 0:
            newlines += 1
            if newlines > lines:
                return block.offset + position + 1
    return 0


def _piece(store: Store, block: db.Block) -> Piece:
    if isinstance(block, LogBatch):
        return Piece(block.offset, block.data, [(block.offset, block.time.timestamp())])
    data = zlib.decompress(store.get_bytes(block.key))
    return Piece(block.offset, data, [(offset, time) for offset, time in block.marks])
