"""The outbox: messages are taken, sent once, and settled.

A message is taken in a transaction of its own before it is sent. So no other server takes it, and
after a crash in between it is known that it may have left: it is then given up as ``unknown``, for
nobody may be told twice. What certainly did not arrive is tried again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from periflow_sdk.api import models as m
from periflow_server.db import notification as db
from periflow_server.db.base import Session, utcnow
from periflow_server.db.event import add_event
from periflow_server.db.notification import Delivery

_LONGEST_PAUSE_SECONDS = 3600.0
_TRIED_FOR = timedelta(hours=24)
_TAKEN_FOR = timedelta(seconds=120)
_KEPT_FOR = timedelta(days=30)
_LONGEST_ERROR = 300


@dataclass(frozen=True)
class Outcome:
    """What became of one try. ``retry`` says that the message certainly did not arrive."""

    status: Literal["sent", "failed", "unknown", "retry"]
    error: str | None = None
    retry_after_seconds: float | None = None


def has_due(session: Session) -> bool:
    """Whether a message is to be sent now."""
    return db.has_due(session, utcnow())


def claim(session: Session, *, most: int, besides: Collection[str]) -> list[Delivery]:
    """Take messages to send, of each project one: a receiver that hangs holds up its own only.

    Args:
        besides: Projects that have one under way.
    """
    taken: dict[str, Delivery] = {}
    for message in db.claim_due(session, utcnow(), limit=50, besides=besides):
        if len(taken) < most and message.project_id not in taken:
            message.status = "sending"
            message.claimed_at = utcnow()
            message.tries += 1
            taken[message.project_id] = message
    return list(taken.values())


def settle(session: Session, delivery_id: str, outcome: Outcome, backoff_seconds: float) -> None:
    """Keep what became of a message; one that did not arrive waits for the next try."""
    message = db.held_delivery(session, delivery_id)
    if message is None:  # its rule was deleted meanwhile
        return
    message.error = outcome.error[:_LONGEST_ERROR] if outcome.error else None
    if outcome.status == "retry" and utcnow() - message.created_at < _TRIED_FOR:
        pause = min(backoff_seconds * 4 ** (message.tries - 1), _LONGEST_PAUSE_SECONDS)
        pause = max(pause, min(outcome.retry_after_seconds or 0, _LONGEST_PAUSE_SECONDS))
        message.status = "waiting"
        message.next_try_at = utcnow() + timedelta(seconds=pause)
        return
    message.status = "failed" if outcome.status == "retry" else outcome.status
    message.next_try_at = None
    message.finished_at = utcnow()
    if message.status != "sent":
        _complain(session, message)


def tidy(session: Session, *, is_alone: bool = False) -> int:
    """Settle what a server that is gone had taken, forget what is old; how many were settled.

    Args:
        is_alone: No server sends anything now, so nothing that was taken has to be waited for.
    """
    taken_for = timedelta(0) if is_alone else _TAKEN_FOR
    abandoned = db.claimed_before(session, utcnow() - taken_for)
    for message in abandoned:
        if message.kind == "email":  # a mail is queued in the transaction that settles it
            message.status, message.next_try_at = "waiting", utcnow()
        else:
            outcome = Outcome("unknown", "the server ended while it was sent")
            settle(session, message.id, outcome, 0)
    db.forget_deliveries(session, utcnow() - _KEPT_FOR)
    return len(abandoned)


def present(message: Delivery) -> m.Delivery:
    """A message as it goes over the wire."""
    job_number = message.content["data"].get("job", {}).get("number")
    fields = {name: getattr(message, name, None) for name in m.Delivery.model_fields}
    event = str(message.content["type"]).removeprefix("job.")
    return m.Delivery.model_validate({**fields, "event": event, "job": job_number})


def _complain(session: Session, message: Delivery) -> None:
    """Say it in the job's history where no rule is there to show it."""
    if message.job_id is None or message.notification_id is not None:
        return
    occasion = str(message.content["type"]).removeprefix("job.")
    why = message.error or "no reason was given"
    told = "may not have been told" if message.status == "unknown" else "was not told"
    line = f"Slack channel {message.channel} {told} of {occasion}: {why}."
    add_event(session, message.job_id, "warning", line)
