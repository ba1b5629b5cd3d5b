"""Projects and who works in them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import StringConstraints

from periflow_sdk.api.models.organization import RoleText
from periflow_sdk.api.models.wire import Body, Name, Wire

ProjectRole = Literal["admin", "maintainer", "developer", "guest"]


class ProjectCreate(Body):
    name: Name


class Project(Wire):
    id: str
    name: str
    organization_id: str
    role: ProjectRole
    created_at: datetime


class ProjectMemberAdd(Body):
    """``username`` may be the email address."""

    username: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=254)]
    role: RoleText


class ProjectMember(Wire):
    """``is_owner``: he owns the organization, and so may do all that admins may."""

    id: str
    username: str
    name: str
    email: str
    role: ProjectRole
    is_owner: bool
    added_at: datetime | None
