"""Rules of a project: whom to tell of which changes of its jobs."""

from __future__ import annotations

import hashlib
from datetime import datetime
from urllib.parse import urlsplit

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError
from periflow_server.db import notification as db
from periflow_server.db.base import Session, new_id
from periflow_server.db.notification import Notification, NotificationRow
from periflow_server.db.user import User, find_user
from periflow_server.permissions import Action
from periflow_server.services import announcement, delivery
from periflow_server.services.access import ProjectAccess, user_access
from periflow_server.services.credential import find_in
from periflow_server.services.vault import Vault
from periflow_server.services.webhook import new_secret, open_address, seal_address

_MOST_RULES = 20

_Create = m.SlackNotificationCreate | m.WebhookNotificationCreate | m.EmailNotificationCreate


def create(session: Session, vault: Vault, access: ProjectAccess, body: _Create) -> m.Notification:
    """Add a rule.

    Raises:
        NotFoundError: of the credential or the member it names.
        ConflictError: the receiver is told already (``notification_exists``), or the project has
            as many rules as it may (``too_many_notifications``).
    """
    rule = Notification(
        id=new_id(),
        project_id=access.project_id,
        kind=body.kind,
        on=list(dict.fromkeys(body.on)),
        created_by=access.user_id,
    )
    _aim(session, vault, access, rule, body)
    if db.has_target(session, access.project_id, rule.target):
        raise ConflictError(
            f"{rule.label} is told already.",
            code="notification_exists",
            hint="Run `pf notify list`; delete that one first to tell of something else.",
        )
    if db.notification_count(session, access.project_id) >= _MOST_RULES:
        raise ConflictError(
            f"The project has {_MOST_RULES} notifications, and more it may not have.",
            code="too_many_notifications",
            hint="Delete one with `pf notify delete ID`.",
        )
    session.add(rule)
    session.flush()
    return _present(session, (rule, session.get_one(User, access.user_id).username))


def list_rules(
    session: Session, project_id: str, cursor: str | None, limit: int
) -> tuple[list[m.Notification], str | None]:
    """A page of the project's rules."""
    rows = db.notifications_of(session, project_id, after=cursor, limit=limit + 1)
    following = rows[limit - 1][0].id if len(rows) > limit else None
    return [_present(session, row) for row in rows[:limit]], following


def find(session: Session, project_id: str, text: str) -> NotificationRow:
    """A rule by its id or the unique start of it.

    Raises:
        NotFoundError: nothing fits (``notification_not_found``).
        ConflictError: several fit (``ambiguous``).
    """
    rows = db.notifications_with_prefix(session, project_id, text)
    if len(rows) == 1:
        return rows[0]
    if not rows:
        raise NotFoundError(
            f"There is no notification {text!r}.",
            code="notification_not_found",
            hint="Run `pf notify list`.",
        )
    ids = [rule.id for rule, _ in rows]
    raise ConflictError(
        f"Several notifications go by {text!r}.",
        code="ambiguous",
        hint=f"Name one by its id, say {ids[0]}.",
        data={"candidates": ids},
    )


def view(session: Session, project_id: str, text: str) -> m.Notification:
    """One rule; see ``find``."""
    return _present(session, find(session, project_id, text))


def remove(session: Session, project_id: str, text: str) -> None:
    """Delete a rule with the messages that it has waiting; see ``find``."""
    session.delete(find(session, project_id, text)[0])


def renew_secret(
    session: Session, vault: Vault, project_id: str, text: str
) -> m.NotificationSecret:
    """Give a webhook a new secret; see ``find``.

    Raises:
        InvalidRequestError: it is no webhook (``not_a_webhook``).
    """
    rule, _ = find(session, project_id, text)
    if rule.kind != "webhook":
        raise InvalidRequestError(
            f"Notification {rule.id} goes by {rule.kind}: only webhooks are signed.",
            code="not_a_webhook",
            hint="Run `pf notify list`.",
        )
    url, _ = open_address(vault, rule.id, rule.sealed or "")
    secret = new_secret()
    rule.sealed = seal_address(vault, rule.id, url, secret)
    return m.NotificationSecret(secret=secret)


def test(session: Session, access: ProjectAccess, text: str) -> m.Delivery:
    """Put a test message into the outbox; see ``find``."""
    rule, _ = find(session, access.project_id, text)
    username = session.get_one(User, access.user_id).username
    return delivery.present(announcement.queue_test(session, rule, username))


def deliveries(
    session: Session, project_id: str, text: str, cursor: str | None, limit: int
) -> tuple[list[m.Delivery], str | None]:
    """A page of a rule's messages, newest first; see ``find``."""
    rule, _ = find(session, project_id, text)
    before = None
    if cursor is not None:
        try:
            before = datetime.fromisoformat(cursor)
        except ValueError:
            before = None
        if before is None or before.tzinfo is None:
            raise InvalidRequestError("This cursor is not one of this list.")
    rows = db.deliveries_of(session, rule.id, before=before, limit=limit + 1)
    following = rows[limit - 1].created_at.isoformat() if len(rows) > limit else None
    return [delivery.present(row) for row in rows[:limit]], following


def _aim(
    session: Session, vault: Vault, access: ProjectAccess, rule: Notification, body: _Create
) -> None:
    match body:
        case m.SlackNotificationCreate():
            credential_id = _slack_credential(session, access, body.credential)
            rule.credential_id, rule.channel = credential_id, body.channel.strip()
            rule.target = announcement.slack_target(credential_id, rule.channel)
            rule.label = rule.channel
        case m.WebhookNotificationCreate():
            rule.target = f"webhook:{hashlib.sha256(body.url.encode()).hexdigest()}"
            rule.label = _without_path(body.url)
            rule.sealed = seal_address(vault, rule.id, body.url, new_secret())
        case m.EmailNotificationCreate():
            user = _reader(session, access, body.username)
            rule.user_id, rule.label = user.id, user.username
            rule.target = f"email:{user.id}"


def _reader(session: Session, access: ProjectAccess, username: str | None) -> User:
    """The member that an email goes to: nobody else can be written to through this server."""
    user = session.get(User, access.user_id) if username is None else find_user(session, username)
    if user is not None:
        try:
            user_access(session, access.project_id, user.id, Action.JOB_READ)
        except NotFoundError:
            user = None
    if user is None:
        raise NotFoundError(
            f"{username} is not in this project.",
            code="user_not_found",
            hint="Run `pf project members`, or `pf project add-user USERNAME ROLE`.",
        )
    return user


def _slack_credential(session: Session, access: ProjectAccess, reference: str) -> str:
    credential, _ = find_in(session, access.organization_id, access.project_id, reference)
    if credential.type != "slack":
        raise InvalidRequestError(
            f"Credential {credential.name} is for {credential.type}, not for slack.",
            code="credential_type",
            hint="Run `pf credential list -t slack`.",
        )
    return credential.id


def _without_path(url: str) -> str:
    """An address without the parts that may be secret."""
    parts = urlsplit(url)
    has_more = bool(parts.path.strip("/") or parts.query)
    return f"{parts.scheme}://{parts.netloc}{'/…' if has_more else ''}"


def _present(session: Session, row: NotificationRow) -> m.Notification:
    rule, username = row
    newest = db.deliveries_of(session, rule.id, before=None, limit=1)
    return m.Notification(
        id=rule.id,
        kind=rule.kind,
        on=rule.on,
        target=rule.label,
        created_by=username,
        created_at=rule.created_at,
        last=delivery.present(newest[0]) if newest else None,
    )
