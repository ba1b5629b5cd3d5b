"""The thread that removes the checkpoints which no retention rule of their job keeps."""

from __future__ import annotations

import logging
import threading

from periflow_server.db.base import Database
from periflow_server.services.retention import Due, apply_rules, due_jobs

_POLL_SECONDS = 0.5
_PAUSE_SECONDS = 5.0
"""After a failure."""

logger = logging.getLogger("periflow_server")


class Pruner:
    """Runs from the server's start to its end; several servers share the work."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pruner", daemon=True)
        self._failure = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        pause = _POLL_SECONDS
        while not self._closing.wait(pause):
            pause = _POLL_SECONDS if self._round() else _PAUSE_SECONDS

    def _round(self) -> bool:
        """Look at what is due; whether nothing failed."""
        try:
            with self._database.read() as session:
                jobs = due_jobs(session)
        except Exception as error:
            return self._note(error)
        # One that fails must not keep the others waiting.
        outcomes = [self._try(job) for job in jobs]
        if all(outcomes):
            self._failure = ""
        return all(outcomes)

    def _try(self, due: Due) -> bool:
        try:
            apply_rules(self._database, due)
        except Exception as error:
            return self._note(error)
        return True

    def _note(self, error: Exception) -> bool:
        if self._failure != repr(error):
            logger.exception("Retention rules could not be applied; it is tried again")
        self._failure = repr(error)
        return False
