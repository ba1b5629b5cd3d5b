"""Organizations."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from periflow_sdk.api.models.wire import Body, Name, Wire


class OrganizationCreate(Body):
    name: Name


class Organization(Wire):
    id: str
    name: str
    status: Literal["staged", "active"]
    role: Literal["owner", "member"]
    created_at: datetime
