"""The thread that sends mail, and sends it again until it arrived.

Without a mail server each mail becomes a file of the outbox folder, before the request that queued
it is answered.
"""

from __future__ import annotations

import logging
import threading
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import TYPE_CHECKING

from periflow_server.db.base import Database, Session, utcnow
from periflow_server.outbox import put_in_outbox
from periflow_server.services import mail
from periflow_server.services.mail import Letter, Postbox
from periflow_server.services.vault import Vault
from periflow_server.settings import Settings

if TYPE_CHECKING:
    from periflow_server.smtp import MailServer

_POLL_SECONDS = 1.0
_TIDY_SECONDS = 60.0
_AT_ONCE = 20

logger = logging.getLogger("periflow_server")


class Mailer:
    """Runs from the server's start to its end; several servers share one queue.

    Raises:
        UsageError: ``SMTP_URL`` is wrong.
    """

    def __init__(self, database: Database, settings: Settings, vault: Vault) -> None:
        self._database = database
        self._settings = settings
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._putting_away = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="mailer", daemon=True)
        self._failure = ""
        if settings.smtp_url is not None:
            from periflow_server.smtp import read_address

            read_address(settings.smtp_url)
        database.info["postbox"] = Postbox(vault, self._deliver)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the mail that is being sent gets a moment."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout=2)

    def _deliver(self, mail_id: str) -> None:
        """A mail was committed."""
        if self._settings.smtp_url is not None:
            self._wake.set()
            return
        try:
            self._put_away()
        except Exception:
            logger.exception("Mail %s could not be put into the outbox now", mail_id)

    def _run(self) -> None:
        tidied: float | None = None
        while not self._closing.is_set():
            self._wake.clear()
            try:
                if tidied is None or time.monotonic() - tidied > _TIDY_SECONDS:
                    with self._database.write() as session:
                        mail.tidy(session, is_alone=tidied is None and self._database.is_sqlite)
                    tidied = time.monotonic()
                self._round()
                self._failure = ""
            except Exception as error:
                if self._failure != repr(error):
                    logger.exception("Mail could not be looked after; it is tried again")
                self._failure = repr(error)
            self._wake.wait(_POLL_SECONDS)

    def _round(self) -> None:
        if self._settings.smtp_url is None:
            self._put_away()
            return
        if self._is_due():
            self._send_all()

    def _is_due(self) -> bool:
        with self._database.read() as session:
            return mail.has_due(session)

    def _put_away(self) -> None:
        # Whoever comes second must find the files there: it is about to answer.
        with self._putting_away:
            while self._is_due():
                with self._database.write() as session:
                    letters = mail.take(session, _AT_ONCE)
                    for letter in letters:
                        self._put_one_away(session, letter)
                if not letters:
                    return

    def _put_one_away(self, session: Session, letter: Letter) -> None:
        try:
            put_in_outbox(self._settings.outbox_dir, self._complete(letter))
        except OSError as error:
            logger.warning("Mail %s cannot be put into the outbox: %s", letter.id, error)
            mail.settle(session, letter.id, "retry", str(error), self._backoff)
        else:
            mail.settle(session, letter.id, "sent", None, self._backoff)

    def _send_all(self) -> None:
        from periflow_server.smtp import MailServer

        with MailServer(self._settings) as server:
            while not self._closing.is_set():
                # One at a time: of what is taken and not sent nobody knows until it is given up.
                with self._database.write() as session:
                    letters = mail.take(session, 1)
                if not letters:
                    return
                for letter in letters:
                    self._send(server, letter)

    def _send(self, server: MailServer, letter: Letter) -> None:
        outcome, error = server.send(letter.recipient, self._complete(letter))
        if error:
            logger.warning("Mail %s was not sent: %s", letter.id, error)
        with self._database.write() as session:
            mail.settle(session, letter.id, outcome, error, self._backoff)

    @property
    def _backoff(self) -> float:
        return self._settings.mail_backoff_seconds

    def _complete(self, letter: Letter) -> EmailMessage:
        message = message_from_bytes(letter.content, policy=policy.default)
        sender = self._settings.mail_sender
        if message["From"] is None:
            message["From"] = sender
        if message["Date"] is None:
            message["Date"] = utcnow()
        # The same at every try, so that what arrives twice can be told to be one mail.
        message["Message-ID"] = f"<{letter.id}@{sender.rpartition('@')[2].rstrip('>')}>"
        return message
