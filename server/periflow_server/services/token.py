"""Tokens: made, checked and ended. Their text leaves this process once, at birth."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from periflow_sdk.errors import ConflictError, LoginRequiredError
from periflow_server.db import token as db
from periflow_server.db.base import Session, utcnow
from periflow_server.db.key import ApiKey, find_key
from periflow_server.db.login import Login
from periflow_server.db.user import User
from periflow_server.settings import Settings

_PREFIX: dict[db.TokenKind, str] = {
    "access": "pf_at_",
    "refresh": "pf_rt_",
    "job": "pf_jt_",
    "late": "pf_jt_",
}

_KEY_PREFIX = "pf_key_"
_LATE = timedelta(days=1)


@dataclass(frozen=True)
class LoginTokens:
    """What a login hands out, once."""

    access_token: str
    refresh_token: str
    expires_at: datetime


@dataclass(frozen=True)
class Identity:
    """Who a token speaks for: a user by a ``login``, or by an API ``key`` of his."""

    user: User
    login: str | None = None
    key: ApiKey | None = None


@dataclass(frozen=True)
class AttemptIdentity:
    """The node of an attempt that a job token speaks for.

    ``is_late``: the attempt has ended, and a member of the project sends what it left.
    """

    attempt_id: str
    job_id: str
    project_id: str
    node_rank: int
    is_late: bool = False


def issue_login_tokens(
    session: Session, user_id: str, family: str, settings: Settings
) -> LoginTokens:
    """A new access and refresh token of the login ``family``."""
    now = utcnow()
    expires_at = now + timedelta(seconds=settings.access_token_seconds)
    over_at = now + timedelta(seconds=settings.refresh_token_seconds)
    return LoginTokens(
        access_token=_issue(
            session, "access", user_id=user_id, family=family, expires_at=expires_at
        ),
        refresh_token=_issue(
            session, "refresh", user_id=user_id, family=family, expires_at=over_at
        ),
        expires_at=expires_at,
    )


def find_refresh_token(session: Session, text: str) -> db.Token | None:
    """The refresh token of a login, held until the end of the transaction."""
    token = db.find_token(session, digest(text), locked=True)
    return token if token is not None and token.kind == "refresh" else None


def authenticate(session: Session, text: str) -> Identity:
    """Whom an access token or an API key speaks for.

    Raises:
        LoginRequiredError: unknown, expired (codes ``token_expired``, ``key_expired``) or ended.
    """
    if is_api_key(text):
        return _authenticate_key(session, text)
    row = db.find_token_and_user(session, digest(text))
    if row is None or row[0].kind != "access" or row[0].family is None:
        raise LoginRequiredError("Log in first.", hint="Run `pf login`.")
    token, user = row
    if token.revoked_at is not None:
        raise LoginRequiredError(_why_ended(session, token.family or ""), hint="Run `pf login`.")
    if token.expires_at is not None and token.expires_at < utcnow():
        raise LoginRequiredError(
            "The access token has expired.", code="token_expired", hint="Run `pf login`."
        )
    return Identity(user, login=token.family)


def new_api_key() -> str:
    """The text of an API key; keep its ``digest`` only."""
    return _KEY_PREFIX + secrets.token_urlsafe(32)


def is_api_key(text: str) -> bool:
    """Whether the text has the form of an API key."""
    return text.startswith(_KEY_PREFIX)


def is_job_token(text: str) -> bool:
    """Whether the text has the form of a job token."""
    return text.startswith(_PREFIX["job"])


def issue_job_token(
    session: Session,
    *,
    attempt_id: str,
    job_id: str,
    project_id: str,
    node_rank: int,
    is_late: bool = False,
) -> str:
    """A token for the agent of one node of an attempt; it works until it is revoked.

    Args:
        is_late: The attempt has ended; the token takes what it left, for a day.
    """
    return _issue(
        session,
        "late" if is_late else "job",
        **({"expires_at": utcnow() + _LATE} if is_late else {}),
        attempt_id=attempt_id,
        job_id=job_id,
        project_id=project_id,
        node_rank=node_rank,
    )


def revoke_job_tokens(session: Session, attempt_id: str) -> None:
    """The attempt has ended or was superseded: its agents can do nothing from now on."""
    db.revoke_attempt(session, attempt_id)


def authenticate_job(session: Session, text: str) -> AttemptIdentity:
    """The attempt and node of a job token.

    Raises:
        LoginRequiredError: no such token.
        ConflictError: its attempt has ended (``attempt_superseded``).
    """
    token = db.find_token(session, digest(text))
    if token is None or token.kind not in ("job", "late"):
        raise LoginRequiredError("This job token is not known.")
    is_over = token.expires_at is not None and token.expires_at < utcnow()
    if token.revoked_at is not None or is_over:
        raise ConflictError(
            "This attempt has ended or was superseded; nothing more is taken from it.",
            code="attempt_superseded",
        )
    return AttemptIdentity(
        attempt_id=str(token.attempt_id),
        job_id=str(token.job_id),
        project_id=str(token.project_id),
        node_rank=int(token.node_rank or 0),
        is_late=token.kind == "late",
    )


def _authenticate_key(session: Session, text: str) -> Identity:
    found = find_key(session, digest(text))
    if found is None:
        raise LoginRequiredError(
            "This API key does not work: it was deleted, or is not one of this server.",
            code="key_unknown",
            hint="Log in, run `pf key create NAME`, and set PERIFLOW_API_KEY to the new key.",
        )
    key, user = found
    if key.expires_at is not None and key.expires_at < utcnow():
        raise LoginRequiredError(
            f"The API key {key.name} has expired.",
            code="key_expired",
            hint="Log in, run `pf key create NAME`, and set PERIFLOW_API_KEY to the new key.",
        )
    return Identity(user, key=key)


def _why_ended(session: Session, family: str) -> str:
    login = session.get(Login, family)
    if login is not None and login.end_reason == "reuse":
        return "This login was ended for safety: somebody used one of its old tokens again."
    if login is not None and login.end_reason == "password":
        return "This login has ended, because the password was changed."
    return "This login has ended."


def _issue(session: Session, kind: db.TokenKind, **fields: str | int | datetime) -> str:
    text = _PREFIX[kind] + secrets.token_urlsafe(32)
    session.add(db.Token(kind=kind, token_hash=digest(text), **fields))
    return text


def digest(text: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
