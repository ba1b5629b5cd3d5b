"""Chunks that nothing needs any more are removed from the store."""

from __future__ import annotations

from periflow_server.db import snapshot as db
from periflow_server.db.base import Database, utcnow
from periflow_server.storage.store import Store, chunk_key

_CHUNKS_A_TRANSACTION = 500


def collect_chunks(database: Database, store: Store) -> int:
    """Remove the chunks that no snapshot names and no lease holds; how many there were.

    The files go within the transaction: who leases such a chunk waits for it, and then finds
    the chunk missing rather than about to vanish.
    """
    collected = 0
    while True:
        with database.write() as session:
            chunks = db.forget_unheld_chunks(session, utcnow(), _CHUNKS_A_TRANSACTION)
            for project_id, name in chunks:
                store.delete(chunk_key(project_id, name))
        collected += len(chunks)
        if len(chunks) < _CHUNKS_A_TRANSACTION:
            return collected
