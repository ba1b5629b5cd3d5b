"""Messages made ready to leave: where each goes, with what secret, and what it says."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from periflow_server.db.base import Session
from periflow_server.db.notification import Delivery, Notification
from periflow_server.db.user import User
from periflow_server.permissions import Action
from periflow_server.services import announcement
from periflow_server.services.access import user_access
from periflow_server.services.delivery import Outcome, settle
from periflow_server.services.job_credential import values_for_server
from periflow_server.services.mail import queue_mail
from periflow_server.services.vault import Vault
from periflow_server.services.webhook import open_address, signed


@dataclass(frozen=True)
class Parcel:
    """One request. ``is_api`` tells Slack's own address from one that a user gave."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    is_slack: bool = False
    is_api: bool = False


def pack(session: Session, vault: Vault, delivery_id: str, slack_url: str) -> Parcel | None:
    """Make a message ready.

    Returns:
        None for an email, which is in the mail queue from here on, and for one that is gone.

    Raises:
        PeriFlowError: it can never be sent; why.
    """
    message = session.get(Delivery, delivery_id)
    if message is None:
        return None
    rule = _rule(session, message)
    if message.kind == "webhook":
        assert rule is not None  # the job file names no webhooks
        return _webhook(vault, rule, message)
    if message.kind == "slack":
        return _slack(session, vault, rule, message, slack_url)
    assert rule is not None
    _mail(session, rule, message)
    return None


def _rule(session: Session, message: Delivery) -> Notification | None:
    if message.notification_id is None:
        return None
    return session.get_one(Notification, message.notification_id)


def _webhook(vault: Vault, rule: Notification, message: Delivery) -> Parcel:
    url, secret = open_address(vault, rule.id, rule.sealed or "")
    headers, body = signed(secret, message.id, int(time.time()), message.content)
    return Parcel(url, headers, body)


def _slack(
    session: Session, vault: Vault, rule: Notification | None, message: Delivery, slack_url: str
) -> Parcel:
    holder = rule or message
    values = values_for_server(session, vault, str(holder.credential_id), message.project_id)
    text = announcement.slack_text(message.content)
    document: dict[str, Any] = {"channel": holder.channel, "text": text}
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "PeriFlow"}
    if url := values.get("webhook_url"):
        return Parcel(url, headers, json.dumps(document).encode(), is_slack=True)
    headers["Authorization"] = f"Bearer {values['token']}"
    body = json.dumps({**document, "unfurl_links": False}).encode()
    url = f"{slack_url.rstrip('/')}/chat.postMessage"
    return Parcel(url, headers, body, is_slack=True, is_api=True)


def _mail(session: Session, rule: Notification, message: Delivery) -> None:
    """Put a message into the mail queue, and settle it in the same transaction."""
    # The rule may be older than his leaving the project; user_access says so.
    user_access(session, rule.project_id, str(rule.user_id), Action.JOB_READ)
    queue_mail(session, announcement.mail(message.content, session.get_one(User, rule.user_id)))
    settle(session, message.id, Outcome("sent"), 0)
