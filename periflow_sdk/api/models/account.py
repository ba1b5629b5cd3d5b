"""Signups, logins and users."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import StringConstraints

from periflow_sdk.api.models.wire import Body, Email, Name, Password, Wire


class SignupRequest(Body):
    username: Name
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)]
    email: Email
    password: Password


class PendingSignup(Wire):
    username: str
    email: str
    expires_at: datetime


class SignupConfirmation(Body):
    username: Name
    code: Annotated[str, StringConstraints(strip_whitespace=True, min_length=4, max_length=16)]


class LoginRequest(Body):
    """``username`` may be the email address."""

    username: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=254)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class RefreshRequest(Body):
    refresh_token: str


class User(Wire):
    id: str
    username: str
    name: str
    email: str
    created_at: datetime


class Session(Wire):
    """Tokens of a login. Both are opaque; ``expires_at`` is that of the access token."""

    access_token: str
    refresh_token: str
    expires_at: datetime
    user: User
