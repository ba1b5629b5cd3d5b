"""Invitations into organizations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import StringConstraints

from periflow_sdk.api.models.mail import MailState
from periflow_sdk.api.models.wire import Body, Email, Wire

InvitationStatus = Literal["pending", "accepted", "revoked", "expired"]
InvitationCode = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)
]
"""The code from the mail, or the link."""


class InvitationCreate(Body):
    email: Email


class Invitation(Wire):
    """An address that was invited. ``mail`` is None once the mail is forgotten."""

    id: str
    organization_id: str
    email: str
    status: InvitationStatus
    invited_by: str
    created_at: datetime
    expires_at: datetime
    mail: MailState | None = None


class InvitationAccept(Body):
    code: InvitationCode
