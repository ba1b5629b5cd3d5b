"""Mail that the server sends."""

from __future__ import annotations

from typing import Literal

from periflow_sdk.api.models.wire import Wire


class MailState(Wire):
    """What became of a mail. ``waiting`` with an error: it is tried again."""

    status: Literal["waiting", "sending", "sent", "failed", "void"]
    tries: int
    error: str | None = None
