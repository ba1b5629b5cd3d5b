"""The thread that tidies the store from time to time, and when something was deleted."""

from __future__ import annotations

import logging
import threading

from periflow_server.db.base import Database
from periflow_server.db.turn import take_turn
from periflow_server.scheduler import site_of
from periflow_server.services.collection import collect_chunks, collect_snapshots
from periflow_server.services.deletion import remove_deleted
from periflow_server.settings import Settings
from periflow_server.storage.store import Store

_STALE_SECONDS = 24 * 3600

logger = logging.getLogger("periflow_server")


class Collector:
    """Collects every ``collect_seconds``, the first time one interval after the start.

    ``wake`` is an Event: set it when something was deleted.
    """

    def __init__(self, database: Database, store: Store, settings: Settings) -> None:
        self._database = database
        self._store = store
        self._interval = settings.collect_seconds
        self._grace = settings.lease_seconds
        self._jobs_dir = settings.data_dir.absolute() / "jobs"
        self._site = site_of(database, settings)
        self.wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._closing.set()
        self.wake.set()
        self._thread.join(timeout=2)

    def _is_my_turn(self) -> bool:
        # Several at once would do no harm, but look at everything in vain. A little less than the
        # interval, because clocks differ.
        with self._database.write() as session:
            return take_turn(session, "collection", self._interval * 0.9)

    def _run(self) -> None:
        while True:
            self.wake.wait(self._interval)
            self.wake.clear()
            if self._closing.is_set():
                return
            try:
                remove_deleted(self._database, self._store, self._jobs_dir, self._site)
                if not self._is_my_turn():
                    continue
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
