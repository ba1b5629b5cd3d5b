"""Signups, passwords and the user who is logged in."""

from __future__ import annotations

from fastapi import APIRouter, Response

from periflow_sdk.api import models as m
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentClient,
    CurrentReader,
    CurrentSettings,
    CurrentUser,
    Db,
    Once,
    Throttle,
)
from periflow_server.services import account, reset
from periflow_server.services.code import wrong_code
from periflow_server.services.password import hash_password
from periflow_server.services.throttle import Limited

router = APIRouter(prefix=PREFIX, tags=["accounts"])


@router.post("/signups", status_code=201, response_model=m.PendingSignup)
def sign_up(
    body: m.SignupRequest, once: Once, settings: CurrentSettings, throttle: Throttle
) -> Response:
    """Begin a signup: its code goes to the address by mail."""
    throttle(Limited.SIGNUP, body.username)
    throttle(Limited.MAIL, body.email)
    password_hash = hash_password(body.password)
    return once(
        f"signup:{body.email}",
        lambda session: account.sign_up(session, body, password_hash, settings),
    )


@router.post("/signups/confirm", status_code=201)
def confirm_signup(
    body: m.SignupConfirmation,
    database: Db,
    client: CurrentClient,
    settings: CurrentSettings,
    throttle: Throttle,
) -> m.Session:
    """Finish a signup with the code from the mail; this logs in."""
    throttle(Limited.CODE, body.username)
    with database.write() as session:
        made = account.confirm_signup(session, body, client, settings)
    if made is None:
        raise wrong_code("pf signup")
    return made


@router.post("/signups/invited", status_code=201)
def sign_up_invited(
    body: m.InvitedSignup,
    database: Db,
    client: CurrentClient,
    settings: CurrentSettings,
    throttle: Throttle,
) -> m.Session:
    """Sign up with the code or the link of an invitation; this joins and logs in."""
    throttle(Limited.SIGNUP, body.username)
    password_hash = hash_password(body.password)
    with database.write() as session:
        return account.sign_up_invited(session, body, password_hash, client, settings)


@router.post("/password-resets", status_code=201)
def request_password_reset(
    body: m.PasswordResetRequest, database: Db, settings: CurrentSettings, throttle: Throttle
) -> m.PendingReset:
    """Have a code for a new password mailed; the answer is the same whether there is a user."""
    throttle(Limited.RESET, body.username)
    throttle(Limited.MAIL, body.username)
    with database.write() as session:
        return reset.request(session, body, settings)


@router.post("/password-resets/confirm", status_code=201)
def confirm_password_reset(
    body: m.PasswordResetConfirmation,
    database: Db,
    client: CurrentClient,
    settings: CurrentSettings,
    throttle: Throttle,
) -> m.Session:
    """Set a new password with the code from the mail; all logins end, and this logs in."""
    throttle(Limited.CODE, body.username)
    password_hash = hash_password(body.password)
    with database.write() as session:
        made = reset.confirm(session, body, password_hash, client, settings)
    if made is None:
        raise wrong_code("pf passwd --reset")
    return made


@router.post("/users/me/password", status_code=204)
def change_password(
    user: CurrentUser, body: m.PasswordChange, database: Db, throttle: Throttle
) -> None:
    """Set another password; all other logins end."""
    throttle(Limited.PASSWORD, user.id)
    account.change_password(database, body, user.id, user.family)
    throttle.give_back(Limited.PASSWORD, user.id)


@router.get("/users/me")
def me(user: CurrentReader, database: Db) -> m.User:
    """The user who is logged in, or whose API key this is."""
    with database.read() as session:
        return account.user(session, user.id)
