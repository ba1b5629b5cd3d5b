"""Logins: opened, refreshed, listed and ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, LoginRequiredError, NotFoundError
from periflow_server.db import login as db
from periflow_server.db.base import Session, new_id, utcnow
from periflow_server.db.token import forget_expired, revoke_family
from periflow_server.db.user import User
from periflow_server.services import audit, token
from periflow_server.services.token import LoginTokens
from periflow_server.settings import Settings

_LONGEST_CLIENT = 200


@dataclass(frozen=True)
class Client:
    """What asks: what it says of itself, and its address where that says something."""

    name: str
    address: str | None


def open_login(session: Session, user: User, client: Client, settings: Settings) -> m.Session:
    """Log a user in, who has proven that it is he."""
    now = utcnow()
    forget_expired(session)
    db.forget_logins(session, now)
    login = db.Login(
        id=new_id(),
        user_id=user.id,
        client="".join(each for each in client.name if each.isprintable())[:_LONGEST_CLIENT],
        address=client.address,
        expires_at=now + timedelta(seconds=settings.refresh_token_seconds),
    )
    session.add(login)
    tokens = token.issue_login_tokens(session, user.id, login.id, settings)
    return _session(user, tokens)


def refresh(session: Session, text: str, client: Client, settings: Settings) -> m.Session | None:
    """Exchange a refresh token for a new pair.

    A token that is used again later than the leeway was stolen or leaked: the whole login ends
    then. The leeway is for answers lost on the way and for two commands that refresh at once.

    Returns:
        None when the login was ended just now (commit that, then refuse).

    Raises:
        LoginRequiredError: the token is unknown, expired or ended.
    """
    used = token.find_refresh_token(session, text)
    user = session.get(User, used.user_id) if used and used.user_id else None
    if used is None or user is None or used.family is None:
        raise LoginRequiredError("This login is not known.", hint="Run `pf login`.")
    now = utcnow()
    if used.revoked_at is not None or (used.expires_at is not None and used.expires_at < now):
        raise LoginRequiredError("This login has ended.", hint="Run `pf login`.")
    leeway = timedelta(seconds=settings.refresh_leeway_seconds)
    if used.used_at is not None and now - used.used_at >= leeway:
        _end(session, used.family, "reuse")
        audit.record(session, actor="server", action="login.reuse", subject=f"login {used.family}")
        return None
    used.used_at = used.used_at or now
    tokens = token.issue_login_tokens(session, user.id, used.family, settings)
    if login := session.get(db.Login, used.family):
        login.seen_at, login.address = now, client.address
        login.expires_at = now + timedelta(seconds=settings.refresh_token_seconds)
    return _session(user, tokens)


def logins(
    session: Session, user_id: str, current: str | None, cursor: str | None, limit: int
) -> tuple[list[m.Login], str | None]:
    """The user's logins that work, newest first, and the cursor of what follows."""
    after = _after(cursor) if cursor else None
    rows = db.open_logins(session, user_id, after=after, limit=limit + 1)
    items = [_wire(each, current) for each in rows[:limit]]
    last = rows[limit - 1] if len(rows) > limit else None
    return items, f"{last.created_at.isoformat()}/{last.id}" if last else None


def log_out(session: Session, login_id: str) -> None:
    """End one login: all its tokens stop working."""
    _end(session, login_id, "logout")


def end_named(session: Session, user_id: str, reference: str) -> None:
    """End one of the user's logins, by its id or the beginning of that.

    Raises:
        NotFoundError: he has no such login (``login_not_found``).
        ConflictError: several begin so (``ambiguous``).
    """
    found = db.logins_with_prefix(session, user_id, reference)
    if not found:
        raise NotFoundError(
            f"You have no login {reference!r}.",
            code="login_not_found",
            hint="Run `pf session list`.",
        )
    if len(found) > 1:
        raise ConflictError(
            f"Several of your logins begin with {reference!r}.",
            code="ambiguous",
            hint="Give more of the id: `pf session list` shows them.",
        )
    _end(session, found[0].id, "logout")


def end_all(
    session: Session, user_id: str, reason: db.EndReason, *, besides: str | None = None
) -> None:
    """End all logins of a user, or all but one."""
    for login_id in db.end_logins(session, user_id, reason, besides=besides):
        revoke_family(session, login_id)


def _end(session: Session, login_id: str, reason: db.EndReason) -> None:
    db.end_login(session, login_id, reason)
    revoke_family(session, login_id)


def _after(cursor: str) -> tuple[datetime, str] | None:
    moment, _, last = cursor.partition("/")
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (parsed, last) if parsed.tzinfo is not None else None


def _session(user: User, tokens: LoginTokens) -> m.Session:
    return m.Session(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_at=tokens.expires_at,
        user=m.User.model_validate(user),
    )


def _wire(login: db.Login, current: str | None) -> m.Login:
    return m.Login(
        id=login.id,
        client=login.client,
        address=login.address,
        created_at=login.created_at,
        seen_at=login.seen_at,
        expires_at=login.expires_at,
        is_current=login.id == current,
    )
