"""Accounts: signing up with a code from the mail, logging in, refreshing, logging out."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, InvalidRequestError, LoginRequiredError
from periflow_server.db import user as db
from periflow_server.db.base import Database, Session, utcnow
from periflow_server.letter import code_message
from periflow_server.services import token
from periflow_server.services.mail import queue_mail
from periflow_server.services.password import hash_password, is_password
from periflow_server.settings import Settings


def sign_up(
    session: Session, body: m.SignupRequest, password_hash: str, settings: Settings
) -> m.PendingSignup:
    """Keep the signup and mail its code. A later signup of the same name replaces this one.

    Args:
        password_hash: Made before the transaction, because it takes its time.

    Raises:
        ConflictError: the username or the address is taken (``user_exists``).
    """
    _refuse_taken(session, body.username, body.email)
    db.forget_expired_signups(session)
    code = f"{secrets.randbelow(1_000_000):06d}"
    signup = db.Signup(
        username=body.username,
        name=body.name,
        email=body.email,
        password_hash=password_hash,
        code_hash=_code_hash(settings, body.username, code),
        attempts_left=settings.signup_attempts,
        expires_at=utcnow() + timedelta(seconds=settings.signup_seconds),
    )
    session.merge(signup)
    message = code_message(body.email, body.name, code, max(1, settings.signup_seconds // 60))
    queue_mail(session, message)
    return m.PendingSignup.model_validate(signup)


def confirm_signup(database: Database, body: m.SignupConfirmation, settings: Settings) -> m.Session:
    """Make the user whose code this is, and log in.

    Raises:
        InvalidRequestError: wrong, used, expired or tried too often (``wrong_code``).
        ConflictError: somebody else took the name meanwhile (``user_exists``).
    """
    with database.write() as session:
        made = _try_code(session, body, settings)
    if made is None:
        raise InvalidRequestError(
            "This code is wrong or no longer works.",
            code="wrong_code",
            hint="Check the newest mail, or run `pf signup` again for a new code.",
        )
    return made


def log_in(database: Database, body: m.LoginRequest, settings: Settings) -> m.Session:
    """Open a login.

    Raises:
        LoginRequiredError: wrong name or password; the same answer for both.
    """
    with database.read() as session:
        user = db.find_user(session, body.username)
    if not is_password(body.password, user.password_hash if user else None) or user is None:
        raise LoginRequiredError(
            "The username or the password is wrong.",
            code="wrong_credentials",
            hint="Run `pf login` again, or `pf signup` for a new account.",
        )
    with database.write() as session:
        return _session(user, token.issue_login_tokens(session, user.id, settings))


def refresh(database: Database, refresh_token: str, settings: Settings) -> m.Session:
    """A new pair of tokens for a refresh token.

    Raises:
        LoginRequiredError: the token does not work; used twice, it has ended the whole login.
    """
    with database.write() as session:
        renewed = token.refresh_login(session, refresh_token, settings)
        user = session.get(db.User, renewed[0]) if renewed else None
    if renewed is None or user is None:
        raise LoginRequiredError(
            "This refresh token was used before; the login has been ended for safety.",
            hint="Run `pf login`.",
        )
    return _session(user, renewed[1])


def log_out(session: Session, family: str) -> None:
    """End a login."""
    token.revoke_login(session, family)


def user(session: Session, user_id: str) -> m.User:
    """A user by id, who is known to exist."""
    return m.User.model_validate(session.get_one(db.User, user_id))


def new_password_hash(body: m.SignupRequest) -> str:
    """The hash of the password of a signup."""
    return hash_password(body.password)


def _try_code(session: Session, body: m.SignupConfirmation, settings: Settings) -> m.Session | None:
    signup = session.get(db.Signup, body.username)
    if signup is None:
        return None
    signup.attempts_left -= 1
    given = _code_hash(settings, body.username, body.code)
    in_time = signup.expires_at > utcnow() and signup.attempts_left >= 0
    if not in_time or not hmac.compare_digest(given, signup.code_hash):
        return None
    _refuse_taken(session, signup.username, signup.email)
    user = db.User(
        username=signup.username,
        name=signup.name,
        email=signup.email,
        password_hash=signup.password_hash,
    )
    session.add(user)
    session.delete(signup)
    session.flush()
    return _session(user, token.issue_login_tokens(session, user.id, settings))


def _session(user: db.User, tokens: token.LoginTokens) -> m.Session:
    return m.Session(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_at=tokens.expires_at,
        user=m.User.model_validate(user),
    )


def _refuse_taken(session: Session, username: str, email: str) -> None:
    other = db.taken_by(session, username, email)
    if other is None:
        return
    taken = "username" if other.username == username else "email address"
    value = username if taken == "username" else email
    raise ConflictError(
        f"The {taken} {value} is taken.",
        code="user_exists",
        hint="Choose another one, or run `pf login` if it is yours.",
    )


def _code_hash(settings: Settings, username: str, code: str) -> str:
    # Six digits are soon tried through; with the server's key a stolen database does not help.
    text = f"periflow-code:{username}:{code}".encode()
    return hmac.new(settings.key, text, hashlib.sha256).hexdigest()
