"""Signups, logins, passwords and users."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import StringConstraints

from periflow_sdk.api.models.wire import Body, Email, Name, Password, PersonName, Wire

LoginName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=254)]
"""A username or an email address."""
GivenPassword = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""A password that exists, or is thought to."""
Code = Annotated[str, StringConstraints(strip_whitespace=True, min_length=4, max_length=16)]


class SignupRequest(Body):
    username: Name
    name: PersonName
    email: Email
    password: Password


class PendingSignup(Wire):
    username: str
    email: str
    expires_at: datetime


class SignupConfirmation(Body):
    username: Name
    code: Code


class InvitedSignup(Body):
    """A signup whose address an invitation proves: ``code`` is that of its mail, or the link."""

    username: Name
    name: PersonName
    password: Password
    code: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class LoginRequest(Body):
    """``username`` may be the email address."""

    username: LoginName
    password: GivenPassword


class RefreshRequest(Body):
    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class PasswordChange(Body):
    password: GivenPassword
    new_password: Password


class PasswordResetRequest(Body):
    """``username`` may be the email address."""

    username: LoginName


class PendingReset(Wire):
    """The same for every name, whether somebody has it or not."""

    expires_at: datetime


class PasswordResetConfirmation(Body):
    username: LoginName
    code: Code
    password: Password


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


class Login(Wire):
    """A login that works. ``seen_at`` is when its tokens were last renewed (within the hour)."""

    id: str
    client: str
    address: str | None = None
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    is_current: bool = False
