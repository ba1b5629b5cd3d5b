"""Checkpoints, as people see them and as agents send them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from periflow_sdk.api.models.wire import Body, Int64, Wire

SaveType = Literal["NORMAL", "EMERGENCY"]
CheckpointStatus = Literal["uploading", "ready", "failed"]


class Checkpoint(Wire):
    id: str
    job: int
    step: int
    save_type: SaveType
    status: CheckpointStatus
    size: int
    created_at: datetime
    snapshot_id: str | None = None
    reason: str | None = None


class CheckpointStart(Body):
    """A checkpoint was staged. ``upload_id`` is the agent's own and makes retries harmless."""

    upload_id: str
    step: Int64
    save_type: SaveType
    size: Int64


class CheckpointCommit(Body):
    """Exactly one of ``snapshot_id`` (it is whole) and ``failure`` (why it is not)."""

    snapshot_id: str | None = None
    failure: str | None = None
