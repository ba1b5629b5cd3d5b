"""API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, field_validator

from periflow_sdk.api.models.organization import RoleText
from periflow_sdk.api.models.wire import Body, Name, Wire


class ApiKeyCreate(Body):
    """``role`` is at most that of who asks. Without ``expires_at`` it works until it is deleted."""

    name: Name
    role: RoleText
    expires_at: Annotated[AwareDatetime | None, Field(strict=False)] = None

    @field_validator("expires_at", mode="before")
    @classmethod
    def _written_out(cls, value: object) -> object:
        # JSON has no times: a text is one, a number would be read as seconds.
        if value is None or isinstance(value, (str, datetime)):
            return value
        raise ValueError("is written as text: 2030-01-31T12:00:00Z")


class ApiKey(Wire):
    id: str
    name: str
    role: str
    project_id: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    used_at: datetime | None = None


class ApiKeySecret(ApiKey):
    """The answer to making it: nothing shows ``key`` again."""

    key: str


class CurrentApiKey(ApiKey):
    """The key a request is made with, and where it works; ``role`` is what it may do now."""

    project_name: str
    organization_id: str
    organization_name: str
