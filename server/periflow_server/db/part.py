"""What each of several nodes has of a checkpoint."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base
from periflow_server.db.checkpoint import Checkpoint


class CheckpointPart(Base):
    """The files of one node. ``status`` is ``announced``, ``whole`` (with its snapshot) or
    ``failed``; the snapshot is kept until the job has ended.

    ``generation`` is that of the checkpoint, ``shards`` as the node said it.
    """

    __tablename__ = "checkpoint_parts"

    checkpoint_id: Mapped[str] = mapped_column(ForeignKey("checkpoints.id"), primary_key=True)
    node: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    generation: Mapped[int]
    status: Mapped[str] = mapped_column(default="announced")
    size: Mapped[int] = mapped_column(BigInteger)
    first_rank: Mapped[int]
    snapshot_id: Mapped[str | None]
    reason: Mapped[str | None]
    shards: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


def parts_of(session: Session, checkpoint_id: str) -> list[CheckpointPart]:
    """The parts of a checkpoint, those of the lowest ranks first."""
    query = select(CheckpointPart).where(CheckpointPart.checkpoint_id == checkpoint_id)
    query = query.order_by(CheckpointPart.first_rank, CheckpointPart.node)
    return list(session.scalars(query))


def part_of(session: Session, checkpoint_id: str, node: int) -> CheckpointPart | None:
    """The part of one node."""
    return session.get(CheckpointPart, (checkpoint_id, node))


def open_joins(session: Session, attempt_id: str) -> list[Checkpoint]:
    """The checkpoints of an attempt whose parts are not joined, and may be."""
    query = select(Checkpoint).where(
        Checkpoint.attempt_id == attempt_id, Checkpoint.status != "ready"
    )
    return list(session.scalars(query.order_by(Checkpoint.step)))
