"""Checkpoints; ``project`` is an id."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


class CheckpointCalls(Transport):
    """Checkpoints; ``project`` is an id."""

    def checkpoints(
        self, project: str, *, job: int | str | None = None, limit: int | None = None
    ) -> list[m.Checkpoint]:
        """Newest first; of one job (number, name or ``latest``) or of the project."""
        params = {"job": job} if job is not None else None
        return self._list(
            f"projects/{project}/checkpoints", m.Checkpoint, params=params, limit=limit
        )

    def checkpoint(self, project: str, checkpoint: str) -> m.Checkpoint:
        """By id, unique id prefix or ``latest``."""
        return self._get(f"projects/{project}/checkpoints/{path_segment(checkpoint)}", m.Checkpoint)

    def delete_checkpoint(self, project: str, checkpoint: str, *, dry_run: bool = False) -> None:
        """Delete one; with ``dry_run`` only see whether that may be done."""
        path = f"projects/{project}/checkpoints/{path_segment(checkpoint)}"
        self._delete(f"{path}{'?dry_run=true' if dry_run else ''}")
