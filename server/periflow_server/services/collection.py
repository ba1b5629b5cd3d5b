"""Snapshots and chunks that nothing needs any more are removed from the store."""

from __future__ import annotations

from datetime import timedelta

from periflow_server.db import snapshot as db
from periflow_server.db.base import Database, utcnow
from periflow_server.db.reference import forget_unused_snapshots
from periflow_server.storage.key import chunk_key, manifest_key
from periflow_server.storage.store import Store

_CHUNKS_A_TRANSACTION = 500
_SNAPSHOTS_A_TRANSACTION = 50


def collect_snapshots(database: Database, store: Store, grace_seconds: float) -> int:
    """Remove the snapshots that nothing refers to any more; how many there were.

    Args:
        grace_seconds: How long a snapshot may be there without being made something of.
    """
    collected = 0
    while True:
        with database.write() as session:
            older_than = utcnow() - timedelta(seconds=grace_seconds)
            gone = forget_unused_snapshots(session, older_than, _SNAPSHOTS_A_TRANSACTION)
            store.delete([manifest_key(project_id, name) for project_id, name in gone])
        collected += len(gone)
        if len(gone) < _SNAPSHOTS_A_TRANSACTION:
            return collected


def collect_chunks(database: Database, store: Store) -> int:
    """Remove the chunks that no snapshot names and no lease holds; how many there were.

    The files go within the transaction: who leases such a chunk waits for it, and then finds
    the chunk missing rather than about to vanish.
    """
    collected = 0
    while True:
        with database.write() as session:
            chunks = db.forget_unheld_chunks(session, utcnow(), _CHUNKS_A_TRANSACTION)
            store.delete([chunk_key(project_id, name) for project_id, name in chunks])
        collected += len(chunks)
        if len(chunks) < _CHUNKS_A_TRANSACTION:
            return collected
