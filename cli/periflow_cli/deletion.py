"""What goes when jobs are deleted, and that of several things none goes when one cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from periflow_cli.connection import Connection
from periflow_cli.moment import size_text
from periflow_sdk.api.models import Job, JobDetail
from periflow_sdk.errors import ApiError


@dataclass(frozen=True)
class JobLoss:
    """A job that is to be deleted, with the number and bytes of its checkpoints."""

    job: JobDetail
    checkpoint_count: int
    checkpoint_bytes: int

    @classmethod
    def of(cls, connection: Connection, job: JobDetail) -> JobLoss:
        """Look at all checkpoints of a job."""
        checkpoints = connection.client.checkpoints(connection.project.id, job=job.id)
        size = sum(each.size for each in checkpoints if each.status == "ready")
        return cls(job, len(checkpoints), size)

    @property
    def title(self) -> str:
        """``12 (train)``."""
        return f"{self.job.number} ({self.job.name})"

    @property
    def line(self) -> str:
        """``Job 12 (train): success, 2 checkpoints (1.2 GB)``."""
        count = self.checkpoint_count
        size = f" ({size_text(self.checkpoint_bytes)})" if self.checkpoint_bytes else ""
        checkpoints = f"{count or 'no'} checkpoint{'' if count == 1 else 's'}{size}"
        return f"Job {self.title}: {self.job.status}, {checkpoints}"

    @property
    def document(self) -> dict[str, Any]:
        """The same as JSON: the job as in a list, and both figures."""
        return {
            **self.job.model_dump(mode="json", include=set(Job.model_fields)),
            "checkpoint_count": self.checkpoint_count,
            "checkpoint_bytes": self.checkpoint_bytes,
        }


@contextmanager
def before_any(count: int) -> Iterator[None]:
    """Let a refusal say that the others are still there, too.

    Args:
        count: How many things are to be deleted.
    """
    try:
        yield
    except ApiError as error:
        if count == 1:
            raise
        message = f"{error.message} None was deleted."
        raise type(error)(message, code=error.code, hint=error.hint, data=error.data) from error
