"""Chunks that a project knows, and the snapshots that name them.

A snapshot's id is the blake3 of its manifest; it is unique within its project, so everything that
refers to one has ``project_id`` and ``snapshot_id``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, exists, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, utcnow

_ROWS_A_STATEMENT = 500
T = TypeVar("T")


class Chunk(Base):
    """A chunk somebody of the project has named; kept at least until ``leased_until``."""

    __tablename__ = "chunks"
    __table_args__ = (Index(None, "leased_until"),)

    project_id: Mapped[str] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    hash: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]
    leased_until: Mapped[datetime]


class Snapshot(Base):
    __tablename__ = "snapshots"

    project_id: Mapped[str] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    file_count: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class SnapshotChunk(Base):
    """A chunk that a snapshot needs: it is never collected while this row is there."""

    __tablename__ = "snapshot_chunks"
    __table_args__ = (
        ForeignKeyConstraint(
            ["project_id", "snapshot_id"],
            ["snapshots.project_id", "snapshots.id"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(["project_id", "chunk_hash"], ["chunks.project_id", "chunks.hash"]),
        Index(None, "project_id", "chunk_hash"),
    )

    project_id: Mapped[str] = mapped_column(primary_key=True)
    snapshot_id: Mapped[str] = mapped_column(primary_key=True)
    chunk_hash: Mapped[str] = mapped_column(primary_key=True)


def lease_chunks(session: Session, project_id: str, sizes: dict[str, int], until: datetime) -> None:
    """Keep these chunks from being collected until then.

    Args:
        sizes: Hash → size in bytes.
    """
    insert = _insert(session)
    for rows in _batches(list(sizes.items())):
        statement = insert(Chunk).values(
            [
                {"project_id": project_id, "hash": name, "size": size, "leased_until": until}
                for name, size in rows
            ]
        )
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["project_id", "hash"],
                set_={"leased_until": statement.excluded.leased_until},
            )
        )


def forget_unheld_chunks(session: Session, now: datetime, limit: int) -> list[tuple[str, str]]:
    """Forget chunks that no snapshot names and whose lease is over; their projects and hashes."""
    named = exists().where(
        SnapshotChunk.project_id == Chunk.project_id, SnapshotChunk.chunk_hash == Chunk.hash
    )
    query = select(Chunk).where(Chunk.leased_until < now, ~named).limit(limit)
    chunks = list(session.scalars(query.with_for_update(skip_locked=True)))
    for chunk in chunks:
        session.delete(chunk)
    session.flush()
    return [(chunk.project_id, chunk.hash) for chunk in chunks]


def find_snapshot(session: Session, project_id: str, snapshot_id: str) -> Snapshot | None:
    """The project's snapshot of this id."""
    return session.get(Snapshot, (project_id, snapshot_id))


def add_snapshot(session: Session, snapshot: Snapshot, chunks: Sequence[str]) -> None:
    """Keep a snapshot and what it needs; one that is there already becomes young again."""
    insert = _insert(session)
    session.execute(
        insert(Snapshot)
        .values(
            project_id=snapshot.project_id,
            id=snapshot.id,
            size=snapshot.size,
            file_count=snapshot.file_count,
            created_at=snapshot.created_at,
        )
        .on_conflict_do_update(
            index_elements=["project_id", "id"], set_={"created_at": snapshot.created_at}
        )
    )
    for names in _batches(chunks):
        rows = [
            {"project_id": snapshot.project_id, "snapshot_id": snapshot.id, "chunk_hash": name}
            for name in names
        ]
        session.execute(insert(SnapshotChunk).values(rows).on_conflict_do_nothing())


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _ROWS_A_STATEMENT):
        yield items[start : start + _ROWS_A_STATEMENT]


def _insert(session: Session) -> Any:
    """The INSERT of this database that knows ON CONFLICT."""
    if session.get_bind().dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert
