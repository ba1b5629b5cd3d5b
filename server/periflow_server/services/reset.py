"""A forgotten password: a code by mail, and a new password for it.

Whether the name is that of a user shows neither in the answers nor in the time they take: for a
stranger's name the same is written, hashed and sealed, and sent to nobody.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from periflow_sdk.api import models as m
from periflow_server.db import reset as db
from periflow_server.db.base import Session, utcnow
from periflow_server.db.user import User, find_user
from periflow_server.letter import password_changed_message, reset_message
from periflow_server.services import audit, code, login
from periflow_server.services.login import Client
from periflow_server.services.mail import queue_mail
from periflow_server.services.password import require_strong
from periflow_server.settings import Settings


def request(session: Session, body: m.PasswordResetRequest, settings: Settings) -> m.PendingReset:
    """Mail a code to the user of this name or address, if there is one."""
    user = find_user(session, body.username)
    digits = f"{secrets.randbelow(1_000_000):06d}"
    expires_at = utcnow() + timedelta(seconds=settings.signup_seconds)
    db.forget_resets(session, user.id if user else None)
    reset = db.PasswordReset(
        user_id=user.id if user else None,
        code_hash=code.digest(settings, "reset", user.id if user else "", digits),
        attempts_left=settings.signup_attempts,
        expires_at=expires_at,
    )
    session.add(reset)
    to, name = (user.email, user.name) if user else ("nobody@invalid", "nobody")
    message = reset_message(to, name, digits, max(1, settings.signup_seconds // 60))
    queue_mail(session, message, is_void=user is None)
    return m.PendingReset(expires_at=expires_at)


def confirm(
    session: Session,
    body: m.PasswordResetConfirmation,
    password_hash: str,
    client: Client,
    settings: Settings,
) -> m.Session | None:
    """Set the new password, end all logins, and log in.

    Args:
        password_hash: Made before the transaction, because it takes its time.

    Returns:
        None when the code is wrong, used, expired or was tried too often (commit that, then
        refuse).

    Raises:
        InvalidRequestError: the password is too easy to guess (``weak_password``).
    """
    user = find_user(session, body.username)
    user_id = user.id if user else ""
    reset = db.newest_reset(session, user_id)
    given = code.digest(settings, "reset", user_id, body.code)
    if user is None or reset is None or not code.is_right(reset, given):
        return None
    require_strong(body.password, user.username, user.email)
    set_password(session, user, password_hash, by="reset")
    db.forget_resets(session, user.id)
    login.end_all(session, user.id, "password")
    return login.open_login(session, user, client, settings)


def set_password(session: Session, user: User, password_hash: str, *, by: str) -> None:
    """Give a user another password, and tell him so.

    Args:
        by: How: ``change`` or ``reset``.
    """
    user.password_hash = password_hash
    audit.record(
        session,
        actor=audit.user(session, user.id),
        action=f"password.{by}",
        subject=f"user {user.username}",
    )
    queue_mail(session, password_changed_message(user.email, user.name))
