"""Who is told of what happens to jobs, and what became of each message."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from periflow_sdk.api.jobfile import NotifyOn
from periflow_sdk.api.models.wire import Body, Wire

NotificationKind = Literal["slack", "webhook", "email"]
DeliveryStatus = Literal["waiting", "sending", "sent", "failed", "unknown"]

_Occasions = Annotated[list[NotifyOn], Field(min_length=1, max_length=6)]
_Reference = Annotated[str, StringConstraints(min_length=1, max_length=254)]
_DEFAULT: list[NotifyOn] = ["failed", "success", "preempted"]


class SlackNotificationCreate(Body):
    """Tell a Slack channel. ``credential`` is a slack credential's name or id."""

    kind: Literal["slack"] = "slack"
    on: _Occasions = _DEFAULT
    credential: _Reference
    channel: Annotated[str, StringConstraints(min_length=1, max_length=80)]


class WebhookNotificationCreate(Body):
    """Post to an address of the user's own."""

    kind: Literal["webhook"] = "webhook"
    on: _Occasions = _DEFAULT
    url: Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class EmailNotificationCreate(Body):
    """Write to a member of the project; None stands for the caller."""

    kind: Literal["email"] = "email"
    on: _Occasions = _DEFAULT
    username: _Reference | None = None


NotificationCreate = Annotated[
    SlackNotificationCreate | WebhookNotificationCreate | EmailNotificationCreate,
    Field(discriminator="kind"),
]


class Delivery(Wire):
    """One message to one receiver. ``job`` is its number, None for a test.

    ``unknown``: it was sent, and whether it arrived cannot be told; it is not sent again.
    """

    id: str
    event: str
    job: int | None = None
    status: DeliveryStatus
    tries: int
    error: str | None = None
    created_at: datetime
    next_try_at: datetime | None = None
    finished_at: datetime | None = None


class Notification(Wire):
    """A rule of a project. ``target`` says whom it tells, without what is secret in it."""

    id: str
    kind: NotificationKind
    on: list[NotifyOn]
    target: str
    created_by: str
    created_at: datetime
    last: Delivery | None = None


class NotificationSecret(Wire):
    """What a webhook's messages are signed with from now on."""

    secret: str
