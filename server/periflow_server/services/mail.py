"""Mail: queued in the transaction of what it tells of, and sent until it arrived.

    mail_id = queue_mail(session, message)      # in a route's write transaction
    mail_state(session, mail_id)                # waiting, sending, sent or failed, and why

A mail may be sent twice when a server dies just after sending it, with one Message-ID; it is never
lost. Its text is kept sealed, and only until it was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from typing import Literal

from periflow_sdk.api import models as m
from periflow_server.db import mail as db
from periflow_server.db.base import Session, after_commit, new_id, utcnow
from periflow_server.services.vault import Vault, VaultError

_TRIED_FOR = timedelta(hours=48)
_TAKEN_FOR = timedelta(minutes=3)
_KEPT_FOR = timedelta(days=30)
_LONGEST_PAUSE_SECONDS = 900.0
_LONGEST_ERROR = 300


@dataclass(frozen=True)
class Postbox:
    """What every session of a server carries, so that mail can be queued anywhere.

    ``deliver`` is called with the id of a mail once its transaction is committed.
    """

    vault: Vault
    deliver: Callable[[str], None]


@dataclass(frozen=True)
class Letter:
    """A mail that was taken to be sent."""

    id: str
    recipient: str
    content: bytes


def queue_mail(session: Session, message: EmailMessage, *, is_void: bool = False) -> str:
    """Have a message sent once this transaction is committed; the mail's id.

    The ``From``, the date and the id of the message are filled in when it is sent.

    Args:
        message: With one address in ``To``.
        is_void: Do everything but send it.
    """
    postbox: Postbox = session.info["postbox"]
    mail_id = new_id()
    mail = db.Mail(
        id=mail_id,
        recipient=str(message["To"]),
        sealed=postbox.vault.seal(mail_id, message.as_bytes()),
        status="void" if is_void else "waiting",
        next_try_at=utcnow(),
        finished_at=utcnow() if is_void else None,
    )
    session.add(mail)
    session.flush()
    if not is_void:
        after_commit(session, lambda: postbox.deliver(mail_id))
    return mail_id


def mail_state(session: Session, mail_id: str) -> m.MailState | None:
    """What became of a mail; None when it was forgotten, a month after it was settled."""
    mail = session.get(db.Mail, mail_id)
    return m.MailState.model_validate(mail) if mail else None


def has_due(session: Session) -> bool:
    """Whether a mail is to be sent now."""
    return db.has_due(session, utcnow())


def take(session: Session, most: int) -> list[Letter]:
    """Take mails to send; what cannot be opened any more has failed."""
    letters = []
    for mail in db.due_mails(session, utcnow(), most):
        if letter := _open(session, mail):
            mail.status = "sending"
            mail.claimed_at = utcnow()
            mail.tries += 1
            letters.append(letter)
    return letters


def settle(
    session: Session,
    mail_id: str,
    outcome: Literal["sent", "failed", "retry"],
    error: str | None,
    backoff_seconds: float,
) -> None:
    """Keep what became of a mail; one that did not arrive waits for the next try."""
    mail = session.get(db.Mail, mail_id)
    if mail is None or mail.status == "sent":
        return
    mail.error = error[:_LONGEST_ERROR] if error else None
    if outcome == "retry" and utcnow() - mail.created_at < _TRIED_FOR:
        pause = min(backoff_seconds * 2 ** min(mail.tries - 1, 16), _LONGEST_PAUSE_SECONDS)
        mail.status = "waiting"
        mail.next_try_at = utcnow() + timedelta(seconds=pause)
        return
    mail.status = "sent" if outcome == "sent" else "failed"
    mail.finished_at = utcnow()
    mail.sealed = None if mail.status == "sent" else mail.sealed


def tidy(session: Session, *, is_alone: bool = False) -> None:
    """Send again what a server that is gone had taken, forget what is old.

    Args:
        is_alone: No server sends anything now, so nothing that was taken has to be waited for.
    """
    taken_for = timedelta(0) if is_alone else _TAKEN_FOR
    for mail in db.claimed_before(session, utcnow() - taken_for):
        mail.status, mail.next_try_at = "waiting", utcnow()
    db.forget_mails(session, utcnow() - _KEPT_FOR)


def _open(session: Session, mail: db.Mail) -> Letter | None:
    postbox: Postbox = session.info["postbox"]
    try:
        content = postbox.vault.open(mail.id, mail.sealed or "")
    except VaultError as error:
        mail.status, mail.error, mail.finished_at = "failed", error.message, utcnow()
        return None
    return Letter(mail.id, mail.recipient, content)
