"""Logins: opened, refreshed, listed and ended."""

from __future__ import annotations

from fastapi import APIRouter

from periflow_sdk.api import models as m
from periflow_sdk.errors import LoginRequiredError
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentClient,
    CurrentSettings,
    CurrentUser,
    Cursor,
    Db,
    Limit,
    Page,
    Throttle,
)
from periflow_server.services import account, login
from periflow_server.services.throttle import Limited

router = APIRouter(prefix=PREFIX, tags=["sessions"])


@router.post("/sessions", status_code=201, responses={401: {}})
def log_in(
    body: m.LoginRequest,
    database: Db,
    client: CurrentClient,
    settings: CurrentSettings,
    throttle: Throttle,
) -> m.Session:
    """Log in with a username or an email address."""
    throttle(Limited.LOGIN, body.username)
    session = account.log_in(database, body, client, settings)
    throttle.give_back(Limited.LOGIN, body.username)
    return session


@router.post("/sessions/refresh", status_code=201, responses={401: {}})
def refresh(
    body: m.RefreshRequest, database: Db, client: CurrentClient, settings: CurrentSettings
) -> m.Session:
    """Exchange the refresh token for a new pair."""
    with database.write() as session:
        renewed = login.refresh(session, body.refresh_token, client, settings)
    if renewed is None:
        raise LoginRequiredError(
            "This refresh token was used before; the login has been ended for safety.",
            code="token_reused",
            hint="Run `pf login`, and `pf passwd` if somebody else may have your tokens.",
        )
    return renewed


@router.get("/sessions")
def list_sessions(
    user: CurrentUser, database: Db, cursor: Cursor = None, limit: Limit = 100
) -> Page[m.Login]:
    """The logins of the user that work, newest first."""
    with database.read() as session:
        items, following = login.logins(session, user.id, user.family, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.delete("/sessions", status_code=204)
def log_out_everywhere(user: CurrentUser, database: Db) -> None:
    """End all logins of the user, this one too."""
    with database.write() as session:
        login.end_all(session, user.id, "logout")


@router.delete("/sessions/current", status_code=204)
def log_out(user: CurrentUser, database: Db) -> None:
    """End this login."""
    with database.write() as session:
        login.log_out(session, user.family)


@router.delete("/sessions/{session}", status_code=204)
def end_session(user: CurrentUser, session: str, database: Db) -> None:
    """End one login of the user, by its id or the beginning of that."""
    with database.write() as transaction:
        login.end_named(transaction, user.id, session)
