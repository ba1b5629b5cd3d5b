"""Checkpoints, as people see them and as agents send them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

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


class PartKey(Body):
    """Which checkpoint of an attempt on several nodes is meant; each node finds it by itself.

    ``generation`` counts the starts of the ranks within the attempt, ``number`` the checkpoints of
    the same step, save type and generation.
    """

    step: Annotated[int, Field(ge=0, lt=2**63)]
    save_type: SaveType
    generation: Annotated[int, Field(ge=0)] = 0
    number: Annotated[int, Field(ge=0)] = 0


class CheckpointPart(PartKey):
    """What one node has of a checkpoint: announced, until it has a ``snapshot_id`` or a failure.

    Where several nodes have a file of the same name, that of the lowest ``first_rank`` counts.
    ``shards``: folder of a sharded checkpoint → how many ranks have a part of it in all, and here.
    """

    size: Annotated[int, Field(ge=0)]
    first_rank: int = 0
    snapshot_id: str | None = None
    failure: str | None = None
    shards: dict[str, Annotated[tuple[int, int], Field(strict=False)]] = {}


class Passage(Body):
    """How far the ranks of a node are with their checkpoints, in one generation.

    Every rank has started a step beyond ``step``, or finished; what they had of checkpoints up to
    there is announced with this word or before. ``is_over``: it remains so.
    """

    generation: Annotated[int, Field(ge=0)]
    step: Annotated[int, Field(ge=-1)]
    is_over: bool = False


class PartsReport(Body):
    """All that a node has to say of checkpoints; saying it again changes nothing.

    ``agreed_step``: the step at which all its ranks have agreed to save in an emergency (0: none);
    None where the node has no ranks that agree to anything. ``attempt``: of an earlier attempt,
    whose left-overs a later one hands in.
    """

    parts: list[CheckpointPart] = []
    passages: list[Passage] = []
    agreed_step: int | None = None
    attempt: int | None = None


class PartState(PartKey):
    """What became of the checkpoint that a part belongs to."""

    status: CheckpointStatus


class PartStates(Wire):
    parts: list[PartState]
