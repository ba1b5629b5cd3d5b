"""What the store must have, and who needs it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from sqlalchemy import select

from periflow_server.db.base import Session
from periflow_server.db.checkpoint import Checkpoint
from periflow_server.db.dataset import Dataset, DatasetVersion
from periflow_server.db.job import Job
from periflow_server.db.log import LogSegment
from periflow_server.db.organization import Organization
from periflow_server.db.project import Project
from periflow_server.db.snapshot import Chunk, Snapshot, SnapshotChunk

_ROWS_A_STATEMENT = 500
T = TypeVar("T")


class ProjectName(NamedTuple):
    id: str
    organization: str
    name: str


def projects(session: Session) -> list[ProjectName]:
    """All projects that are not deleted."""
    query = (
        select(Project.id, Organization.name, Project.name)
        .join(Organization, Organization.id == Project.organization_id)
        .where(Project.deleted_at.is_(None))
        .order_by(Organization.name, Project.name)
    )
    return [ProjectName(*row) for row in session.execute(query)]


def needed_chunks(session: Session, project_id: str) -> dict[str, int]:
    """Hash → bytes of the chunks that a snapshot of the project names."""
    named = select(SnapshotChunk.chunk_hash).where(SnapshotChunk.project_id == project_id)
    query = select(Chunk.hash, Chunk.size)
    query = query.where(Chunk.project_id == project_id, Chunk.hash.in_(named)).order_by(Chunk.hash)
    return {row.hash: row.size for row in session.execute(query)}


def snapshot_ids(session: Session, project_id: str) -> list[str]:
    """The snapshots of a project."""
    query = select(Snapshot.id).where(Snapshot.project_id == project_id).order_by(Snapshot.id)
    return list(session.scalars(query))


def log_segments(session: Session) -> list[LogSegment]:
    """All pieces of logs that are in the store."""
    return list(session.scalars(select(LogSegment).order_by(LogSegment.key)))


def has_log_segment(session: Session, key: str) -> bool:
    """Whether a piece of a log is still needed."""
    return session.scalar(select(LogSegment.id).where(LogSegment.key == key)) is not None


def snapshots_of_chunks(
    session: Session, project_id: str, hashes: Sequence[str]
) -> dict[str, list[str]]:
    """Hash → the snapshots that name the chunk now; none for those that nothing names."""
    found = defaultdict(list)
    for names in _batches(hashes):
        query = select(SnapshotChunk.chunk_hash, SnapshotChunk.snapshot_id).where(
            SnapshotChunk.project_id == project_id, SnapshotChunk.chunk_hash.in_(names)
        )
        for name, snapshot_id in session.execute(query):
            found[name].append(snapshot_id)
    return dict(found)


def uses(session: Session, project_id: str, snapshots: Sequence[str]) -> dict[str, list[str]]:
    """Snapshot → what it is, in words: a version of a dataset, a checkpoint, a workspace."""
    found = defaultdict(list)
    for ids in _batches(snapshots):
        of_datasets = (
            select(DatasetVersion.snapshot_id, Dataset.name, DatasetVersion.version)
            .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
            .where(DatasetVersion.project_id == project_id, DatasetVersion.snapshot_id.in_(ids))
        )
        for snapshot, name, version in session.execute(of_datasets):
            found[snapshot].append(f"dataset {name}, version {version}")
        of_checkpoints = (
            select(Checkpoint.snapshot_id, Checkpoint.id, Checkpoint.step, Job.number)
            .join(Job, Job.id == Checkpoint.job_id)
            .where(Checkpoint.project_id == project_id, Checkpoint.snapshot_id.in_(ids))
        )
        for checkpoint, name, step, number in session.execute(of_checkpoints):
            found[str(checkpoint)].append(f"checkpoint {name[:12]} (job {number}, step {step})")
        of_jobs = select(Job.workspace_snapshot_id, Job.number).where(
            Job.project_id == project_id, Job.workspace_snapshot_id.in_(ids)
        )
        for workspace, number in session.execute(of_jobs):
            found[str(workspace)].append(f"workspace of job {number}")
    return dict(found)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _ROWS_A_STATEMENT):
        yield items[start : start + _ROWS_A_STATEMENT]
