"""Projects."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from periflow_sdk.api.models.wire import Body, Name, Wire


class ProjectCreate(Body):
    name: Name


class Project(Wire):
    id: str
    name: str
    organization_id: str
    role: Literal["admin", "maintainer", "developer", "guest"]
    created_at: datetime
