"""Accounts: signing up with a code from the mail, logging in, changing the password."""

from __future__ import annotations

import secrets
from datetime import timedelta

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, InvalidRequestError, LoginRequiredError
from periflow_server.db import user as db
from periflow_server.db.base import Database, Session, utcnow
from periflow_server.letter import code_message, known_address_message
from periflow_server.services import code, invitation, login
from periflow_server.services.login import Client
from periflow_server.services.mail import queue_mail
from periflow_server.services.password import hash_password, is_password, require_strong
from periflow_server.services.reset import set_password
from periflow_server.settings import Settings


def sign_up(
    session: Session, body: m.SignupRequest, password_hash: str, settings: Settings
) -> m.PendingSignup:
    """Keep the signup and mail its code. A later signup of the same name replaces this one.

    Whether an address has an account is told to its mailbox alone, but on an embedded server,
    where all are one user.

    Args:
        password_hash: Made before the transaction, because it takes its time.

    Raises:
        ConflictError: the username is taken (``user_exists``).
        InvalidRequestError: the password is too easy to guess (``weak_password``).
    """
    require_strong(body.password, body.username, body.email)
    known = _refuse_taken(session, body.username, body.email, tells_address=settings.embedded)
    db.forget_expired_signups(session)
    digits = f"{secrets.randbelow(1_000_000):06d}"
    signup = db.Signup(
        username=body.username,
        name=body.name,
        email=body.email,
        password_hash=password_hash,
        code_hash=code.digest(settings, "code", body.username, digits),
        attempts_left=settings.signup_attempts,
        expires_at=utcnow() + timedelta(seconds=settings.signup_seconds),
    )
    session.merge(signup)
    if known is None:
        minutes = max(1, settings.signup_seconds // 60)
        queue_mail(session, code_message(body.email, body.name, digits, minutes))
    else:
        queue_mail(session, known_address_message(known.email, known.name, known.username))
    return m.PendingSignup.model_validate(signup)


def confirm_signup(
    session: Session, body: m.SignupConfirmation, client: Client, settings: Settings
) -> m.Session | None:
    """Make the user whose code this is, and log in.

    Returns:
        None when the code is wrong, used, expired or was tried too often (commit that, then
        refuse).

    Raises:
        ConflictError: somebody else took the name meanwhile (``user_exists``).
    """
    signup = session.get(db.Signup, body.username, with_for_update=True)
    given = code.digest(settings, "code", body.username, body.code)
    if signup is None or not code.is_right(signup, given):
        return None
    _refuse_taken(session, signup.username, signup.email, tells_address=True)
    user = add_user(session, signup.username, signup.name, signup.email, signup.password_hash)
    session.delete(signup)
    return login.open_login(session, user, client, settings)


def sign_up_invited(
    session: Session,
    body: m.InvitedSignup,
    password_hash: str,
    client: Client,
    settings: Settings,
) -> m.Session:
    """Make the user who was invited, and log in; raises as ``join_invited``."""
    user = join_invited(session, body, password_hash)
    return login.open_login(session, user, client, settings)


def join_invited(session: Session, body: m.InvitedSignup, password_hash: str) -> db.User:
    """Make the user who was invited, a member where he was invited to.

    The code came by mail, so the address is proven.

    Raises:
        InvalidRequestError: ``wrong_invitation``, ``weak_password``.
        ConflictError: the invitation was used, revoked or has expired (``invitation_...``); the
            username or the address is taken (``user_exists``).
    """
    invited, _ = invitation.open_invitation(session, body.code)
    require_strong(body.password, body.username, invited.email)
    _refuse_taken(session, body.username, invited.email, tells_address=True)
    user = add_user(session, body.username, body.name, invited.email, password_hash)
    invitation.accept(session, body.code, user.id)
    return user


def accept_with_password(database: Database, text: str, password: str) -> None:
    """Accept an invitation as the user whose address was invited, by his password.

    Args:
        text: The code or the link.

    Raises:
        LoginRequiredError: the password is wrong (``wrong_credentials``).
        InvalidRequestError, ConflictError: as ``invitation.open_invitation``.
    """
    with database.read() as session:
        invited, _ = invitation.open_invitation(session, text, is_held=False)
        user = db.user_with_address(session, invited.email)
    if not is_password(password, user.password_hash if user else None) or user is None:
        raise LoginRequiredError(
            "The password is wrong.",
            code="wrong_credentials",
            hint="Try again, or run `pf passwd --reset` if you forgot it.",
        )
    with database.write() as session:
        invitation.accept(session, text, user.id)


def add_user(session: Session, username: str, name: str, email: str, password_hash: str) -> db.User:
    """Make a user whose address is proven."""
    user = db.User(username=username, name=name, email=email, password_hash=password_hash)
    session.add(user)
    session.flush()
    return user


def log_in(
    database: Database, body: m.LoginRequest, client: Client, settings: Settings
) -> m.Session:
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
            hint="Run `pf login` again, `pf passwd --reset` if you forgot the password, or "
            "`pf signup` for a new account.",
        )
    with database.write() as session:
        return login.open_login(session, session.get_one(db.User, user.id), client, settings)


def change_password(
    database: Database, body: m.PasswordChange, user_id: str, current_login: str
) -> None:
    """Set another password; all other logins of the user end.

    Raises:
        ForbiddenError: the old one is wrong (``wrong_password``).
        InvalidRequestError: the new one is too easy to guess (``weak_password``) or the old one
            (``same_password``).
    """
    with database.read() as session:
        user = session.get_one(db.User, user_id)
    if not is_password(body.password, user.password_hash):
        raise InvalidRequestError(
            "The current password is wrong.",
            code="wrong_password",
            hint="Run `pf passwd` again, or `pf passwd --reset` if you forgot it.",
        )
    if body.new_password == body.password:
        raise InvalidRequestError(
            "The new password is the current one.",
            code="same_password",
            hint="Choose another one.",
        )
    require_strong(body.new_password, user.username, user.email)
    password_hash = hash_password(body.new_password)
    with database.write() as session:
        user = session.get_one(db.User, user_id)
        set_password(session, user, password_hash, by="change")
        login.end_all(session, user_id, "password", besides=current_login)


def user(session: Session, user_id: str) -> m.User:
    """A user by id, who is known to exist."""
    return m.User.model_validate(session.get_one(db.User, user_id))


def _refuse_taken(
    session: Session, username: str, email: str, *, tells_address: bool
) -> db.User | None:
    """Refuse a name that is taken; who has the address, where that is not to be told."""
    named, reached = db.user_named(session, username), db.user_with_address(session, email)
    if named is not None:
        raise _taken("username", username)
    if reached is not None and tells_address:
        raise _taken("email address", email)
    return reached


def _taken(what: str, value: str) -> ConflictError:
    return ConflictError(
        f"The {what} {value} is taken.",
        code="user_exists",
        hint="Choose another one, or run `pf login` if it is yours.",
    )
