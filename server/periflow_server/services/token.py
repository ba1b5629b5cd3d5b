"""Tokens: made, checked and ended. Their text leaves this process once, at birth."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from periflow_sdk.errors import ConflictError, LoginRequiredError
from periflow_server.db import token as db
from periflow_server.db.base import Session, new_id, utcnow
from periflow_server.db.user import User
from periflow_server.settings import Settings

_PREFIX: dict[db.TokenKind, str] = {
    "access": "pf_at_",
    "refresh": "pf_rt_",
    "job": "pf_jt_",
    "late": "pf_jt_",
}

_LATE = timedelta(days=1)


@dataclass(frozen=True)
class LoginTokens:
    """What a login hands out, once."""

    access_token: str
    refresh_token: str
    expires_at: datetime


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
    session: Session, user_id: str, settings: Settings, family: str | None = None
) -> LoginTokens:
    """A new access and refresh token; of a new login, or of the login ``family``."""
    db.forget_expired(session)
    family = family or new_id()
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


def refresh_login(
    session: Session, text: str, settings: Settings
) -> tuple[str, LoginTokens] | None:
    """Exchange a refresh token for a new pair; the user's id and the pair.

    A token that is used again later than the leeway was stolen or leaked: the whole login ends
    then. The leeway is for answers lost on the way and for two commands that refresh at once.

    Returns:
        None when the login was ended just now (commit that, then refuse).

    Raises:
        LoginRequiredError: the token is unknown, expired or revoked.
    """
    token = db.find_token(session, _hash(text))
    if token is None or token.kind != "refresh" or token.user_id is None or token.family is None:
        raise LoginRequiredError("This login is not known.", hint="Run `pf login`.")
    now = utcnow()
    if token.revoked_at is not None or (token.expires_at is not None and token.expires_at < now):
        raise LoginRequiredError("This login has ended.", hint="Run `pf login`.")
    leeway = timedelta(seconds=settings.refresh_leeway_seconds)
    if token.used_at is not None and now - token.used_at >= leeway:
        db.revoke_family(session, token.family)
        return None
    token.used_at = token.used_at or now
    return token.user_id, issue_login_tokens(session, token.user_id, settings, token.family)


def authenticate(session: Session, text: str) -> tuple[User, str]:
    """The user of an access token, and the login (family) it belongs to.

    Raises:
        LoginRequiredError: unknown, expired (code ``token_expired``) or ended.
    """
    token = db.find_token(session, _hash(text))
    user = session.get(User, token.user_id) if token and token.user_id else None
    if token is None or user is None or token.kind != "access" or token.family is None:
        raise LoginRequiredError("Log in first.", hint="Run `pf login`.")
    if token.revoked_at is not None:
        raise LoginRequiredError("This login has ended.", hint="Run `pf login`.")
    if token.expires_at is not None and token.expires_at < utcnow():
        raise LoginRequiredError(
            "The access token has expired.", code="token_expired", hint="Run `pf login`."
        )
    return user, token.family


def revoke_login(session: Session, family: str) -> None:
    """Log out: all tokens of the login stop working."""
    db.revoke_family(session, family)


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
    token = db.find_token(session, _hash(text))
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


def _issue(session: Session, kind: db.TokenKind, **fields: str | int | datetime) -> str:
    text = _PREFIX[kind] + secrets.token_urlsafe(32)
    session.add(db.Token(kind=kind, token_hash=_hash(text), **fields))
    return text


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
