"""Chunks that a project knows, and the snapshots that name them.

A snapshot's id is the blake3 of its manifest; it is unique within its project, so everything that
refers to one has ``project_id`` and ``snapshot_id``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    exists,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, UtcDateTime, claim, utcnow
from periflow_server.db.engine import insert, numbered, texts


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
    if not sizes:  # a folder of empty files; without rows the statement would still insert one
        return
    # In one order everywhere: two uploads of the same chunks must not wait for each other.
    rows = numbered(session, dict(sorted(sizes.items())))
    rows = rows.add_columns(literal(project_id), literal(until, UtcDateTime))
    columns = ["hash", "size", "project_id", "leased_until"]
    statement = insert(session, Chunk).from_select(columns, rows)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["project_id", "hash"],
            set_={"leased_until": statement.excluded.leased_until},
        )
    )


def stored(session: Session, project_id: str) -> tuple[int, int]:
    """Bytes and number of the chunks that the project has or means to send."""
    query = select(func.coalesce(func.sum(Chunk.size), 0), func.count())
    size, count = session.execute(query.where(Chunk.project_id == project_id)).one()
    return int(size), int(count)


def unknown_chunks(session: Session, project_id: str, hashes: Collection[str]) -> set[str]:
    """Those of the chunks that nobody of the project has named yet."""
    named = select(Chunk.hash).where(
        Chunk.project_id == project_id, Chunk.hash.in_(texts(session, hashes))
    )
    return set(hashes).difference(session.scalars(named))


def shorten_leases(session: Session, project_id: str, until: datetime) -> None:
    """Let no lease of the project last longer."""
    session.execute(
        update(Chunk)
        .where(Chunk.project_id == project_id, Chunk.leased_until > until)
        .values(leased_until=until)
    )


def forget_unheld_chunks(session: Session, now: datetime, limit: int) -> list[tuple[str, str]]:
    """Forget chunks that no snapshot names and whose lease is over; their projects and hashes."""
    named = exists().where(
        SnapshotChunk.project_id == Chunk.project_id, SnapshotChunk.chunk_hash == Chunk.hash
    )
    query = select(Chunk).where(Chunk.leased_until < now, ~named).limit(limit)
    chunks = list(session.scalars(claim(query, to_delete=True)))
    for chunk in chunks:
        session.delete(chunk)
    session.flush()
    return [(chunk.project_id, chunk.hash) for chunk in chunks]


def find_snapshot(session: Session, project_id: str, snapshot_id: str) -> Snapshot | None:
    """The project's snapshot of this id."""
    return session.get(Snapshot, (project_id, snapshot_id))


def hold_snapshot(session: Session, project_id: str, snapshot_id: str) -> Snapshot | None:
    """The project's snapshot of this id, which stays until the transaction ends."""
    held = {"read": True, "key_share": True}
    return session.get(Snapshot, (project_id, snapshot_id), with_for_update=held)


def add_snapshot(session: Session, snapshot: Snapshot, chunks: Sequence[str]) -> None:
    """Keep a snapshot and what it needs; one that is there already becomes young again."""
    session.execute(
        insert(session, Snapshot)
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
    if not chunks:
        return
    rows = texts(session, sorted(chunks))
    rows = rows.add_columns(literal(snapshot.project_id), literal(snapshot.id)).where(text("true"))
    columns = ["chunk_hash", "project_id", "snapshot_id"]
    statement = insert(session, SnapshotChunk).from_select(columns, rows)
    session.execute(statement.on_conflict_do_nothing())
