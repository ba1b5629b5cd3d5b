"""The thread that tidies the store from time to time."""

from __future__ import annotations

import logging
import threading

from periflow_server.db.base import Database
from periflow_server.services.collection import collect_chunks, collect_snapshots
from periflow_server.settings import Settings
from periflow_server.storage.store import Store

_STALE_SECONDS = 24 * 3600

logger = logging.getLogger("periflow_server")


class Collector:
    """Collects every ``collect_seconds``, the first time one interval after the start."""

    def __init__(self, database: Database, store: Store, settings: Settings) -> None:
        self._database = database
        self._store = store
        self._interval = settings.collect_seconds
        self._grace = settings.lease_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._closing.wait(self._interval):
            try:
                snapshots = collect_snapshots(self._database, self._store, self._grace)
                chunks = collect_chunks(self._database, self._store)
                files = self._store.remove_stale_files(_STALE_SECONDS)
            except Exception:
                logger.exception("Tidying the store failed; it is tried again later")
                continue
            if snapshots or chunks or files:
                logger.info(
                    "Removed %d snapshots, %d chunks and %d unfinished files",
                    snapshots,
                    chunks,
                    files,
                )
