"""Organizations and who is in them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import StringConstraints

from periflow_sdk.api.models.wire import Body, Name, Wire

OrganizationRole = Literal["owner", "member"]
OrganizationStatus = Literal["staged", "active", "refused"]
RoleText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=32)]
"""A role as people write it, in any case; the server knows them."""


class OrganizationCreate(Body):
    name: Name


class Organization(Wire):
    """``refusal`` says why an administrator refused it, where he did and said so."""

    id: str
    name: str
    status: OrganizationStatus
    role: OrganizationRole
    created_at: datetime
    refusal: str | None = None


class OrganizationMember(Wire):
    id: str
    username: str
    name: str
    email: str
    role: OrganizationRole
    joined_at: datetime


class RoleChange(Body):
    role: RoleText


class Usage(Wire):
    """What one user has used in one month (UTC, ``2024-05``) in one project.

    ``is_member`` says whether he is in the organization still.
    """

    project: str
    user: str
    is_member: bool = True
    month: str
    device_hours: float
    jobs: int


class Permission(Wire):
    """An action in words and the roles that may do it, in organizations or in projects."""

    action: str
    words: str
    scope: Literal["organization", "project"]
    roles: list[str]
