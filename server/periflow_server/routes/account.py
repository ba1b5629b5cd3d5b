"""Signups, sessions and the user who is logged in."""

from __future__ import annotations

from fastapi import APIRouter, Response

from periflow_sdk.api import models as m
from periflow_server.routes.dependencies import CurrentSettings, CurrentUser, Db, Once
from periflow_server.services import account

router = APIRouter(tags=["accounts"])


@router.post("/signups", status_code=201, response_model=m.PendingSignup)
def sign_up(body: m.SignupRequest, once: Once, settings: CurrentSettings) -> Response:
    """Begin a signup: its code goes to the address by mail."""
    password_hash = account.new_password_hash(body)
    return once(
        f"signup:{body.email}",
        lambda session: account.sign_up(session, body, password_hash, settings),
    )


@router.post("/signups/confirm", status_code=201)
def confirm_signup(
    body: m.SignupConfirmation, database: Db, settings: CurrentSettings
) -> m.Session:
    """Finish a signup with the code from the mail; this logs in."""
    return account.confirm_signup(database, body, settings)


@router.post("/sessions", status_code=201)
def log_in(body: m.LoginRequest, database: Db, settings: CurrentSettings) -> m.Session:
    """Log in with a username or an email address."""
    return account.log_in(database, body, settings)


@router.post("/sessions/refresh", status_code=201)
def refresh(body: m.RefreshRequest, database: Db, settings: CurrentSettings) -> m.Session:
    """Exchange the refresh token for a new pair."""
    return account.refresh(database, body.refresh_token, settings)


@router.delete("/sessions/current", status_code=204)
def log_out(user: CurrentUser, database: Db) -> None:
    """End this login."""
    with database.write() as session:
        account.log_out(session, user.family)


@router.get("/users/me")
def me(user: CurrentUser, database: Db) -> m.User:
    """The user who is logged in."""
    with database.read() as session:
        return account.user(session, user.id)
