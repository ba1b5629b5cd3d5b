"""What a command printed."""

from __future__ import annotations

from datetime import datetime

from periflow_sdk.api.models.job import JobStatus
from periflow_sdk.api.models.wire import Wire


class LogLine(Wire):
    time: datetime
    attempt: int
    node: int
    text: str


class LogPage(Wire):
    """Some lines of a job's log.

    ``cursor`` asks for what follows; ``complete`` says that nothing will follow (the job has
    ended and its last line is in this page or before it).
    """

    lines: list[LogLine]
    cursor: str
    complete: bool
    status: JobStatus
