"""The thread that sends what waits in the outbox of notifications."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

from periflow_sdk.errors import PeriFlowError
from periflow_server.db.base import Database
from periflow_server.services import delivery
from periflow_server.services.delivery import Outcome
from periflow_server.services.parcel import pack
from periflow_server.services.vault import Vault, VaultError
from periflow_server.settings import Settings

_POLL_SECONDS = 0.5
_TIDY_SECONDS = 30.0
_WORKERS = 4
_STOP_SECONDS = 5.0

logger = logging.getLogger("periflow_server")


class Notifier:
    """Runs from the server's start to its end; several servers share one outbox."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._vault = Vault.of(settings)
        self._closing = threading.Event()
        self._free = threading.Event()
        self._under_way: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="notifier")
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
        self._failure = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is being sent gets a few seconds to end."""
        self._closing.set()
        self._free.set()
        self._thread.join(timeout=2)
        wait(list(self._under_way.values()), timeout=_STOP_SECONDS)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        tidied: float | None = None
        while not self._closing.is_set():
            self._free.clear()
            try:
                if tidied is None or time.monotonic() - tidied > _TIDY_SECONDS:
                    # SQLite has one server: at its start what was taken is nobody's.
                    self._tidy(is_alone=tidied is None and self._database.is_sqlite)
                    tidied = time.monotonic()
                self._round()
                self._failure = ""
            except Exception as error:
                if self._failure != repr(error):
                    logger.exception("Notifications could not be looked after; it is tried again")
                self._failure = repr(error)
            self._free.wait(_POLL_SECONDS)

    def _tidy(self, *, is_alone: bool) -> None:
        with self._database.write() as session:
            settled = delivery.tidy(session, is_alone=is_alone)
        if settled:
            logger.warning("%d notifications were being sent when a server ended", settled)

    def _round(self) -> None:
        done = [project for project, future in self._under_way.items() if future.done()]
        for project in done:
            del self._under_way[project]
        most = _WORKERS - len(self._under_way)
        with self._database.read() as session:
            if not most or not delivery.has_due(session):
                return
        with self._database.write() as session:
            taken = delivery.claim(session, most=most, besides=list(self._under_way))
        for message in taken:
            self._under_way[message.project_id] = self._pool.submit(self._send, message.id)

    def _send(self, delivery_id: str) -> None:
        try:
            outcome = self._try(delivery_id)
            if outcome is not None:
                with self._database.write() as session:
                    backoff = self._settings.notify_backoff_seconds
                    delivery.settle(session, delivery_id, outcome, backoff)
        except Exception:
            logger.exception("Notification %s could not be settled", delivery_id)
        self._free.set()

    def _try(self, delivery_id: str) -> Outcome | None:
        from periflow_server.sending import send

        settings = self._settings
        try:
            with self._database.write() as session:
                parcel = pack(session, self._vault, delivery_id, settings.slack_url)
        except VaultError as error:
            return Outcome("retry", error.message)
        except PeriFlowError as error:
            return Outcome("failed", error.message)
        if parcel is None:
            return None
        return send(parcel, private=settings.private_addresses)
