"""What refers to a snapshot, and so keeps it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, exists, select

from periflow_sdk.api.models import TERMINAL_STATUSES
from periflow_server.db.base import Session, claim
from periflow_server.db.checkpoint import Checkpoint
from periflow_server.db.dataset import Dataset, DatasetVersion
from periflow_server.db.job import Job
from periflow_server.db.part import CheckpointPart
from periflow_server.db.snapshot import Snapshot, SnapshotChunk


def forget_unused_snapshots(
    session: Session, older_than: datetime, limit: int
) -> list[tuple[str, str]]:
    """Forget snapshots that no dataset, workspace or checkpoint is, and no unfinished job reads.

    Args:
        older_than: Younger ones stay: somebody may be about to make a dataset of them.

    Returns:
        Their projects and ids.
    """
    claimed = [row for row in _unused(session, older_than)[:limit] if _claim(session, row)]
    if not claimed:
        return []
    # Somebody may have made something of one before it was ours.
    still_unused = set(_unused(session, older_than))
    gone = [row for row in claimed if row in still_unused]
    for project_id, snapshot_id in gone:
        session.execute(
            delete(SnapshotChunk).where(
                SnapshotChunk.project_id == project_id, SnapshotChunk.snapshot_id == snapshot_id
            )
        )
        session.execute(
            delete(Snapshot).where(Snapshot.project_id == project_id, Snapshot.id == snapshot_id)
        )
    return gone


def _claim(session: Session, row: tuple[str, str]) -> bool:
    query = select(Snapshot.id).where(Snapshot.project_id == row[0], Snapshot.id == row[1])
    return session.scalar(claim(query, to_delete=True)) is not None


def _unused(session: Session, older_than: datetime) -> list[tuple[str, str]]:
    named = [
        exists().where(table.project_id == Snapshot.project_id, column == Snapshot.id)
        for table, column in (
            (Dataset, Dataset.snapshot_id),
            (DatasetVersion, DatasetVersion.snapshot_id),
            (Job, Job.workspace_snapshot_id),
            (Checkpoint, Checkpoint.snapshot_id),
        )
    ]
    to_be_joined = exists().where(
        CheckpointPart.project_id == Snapshot.project_id,
        CheckpointPart.snapshot_id == Snapshot.id,
        CheckpointPart.checkpoint_id == Checkpoint.id,
        Checkpoint.job_id == Job.id,
        Job.status.not_in(TERMINAL_STATUSES),
    )
    query = select(Snapshot.project_id, Snapshot.id).where(
        Snapshot.created_at < older_than, *(~each for each in (*named, to_be_joined))
    )
    read = _read_by_jobs(session)
    return [
        (project, name) for project, name in session.execute(query) if (project, name) not in read
    ]


def _read_by_jobs(session: Session) -> set[tuple[str, str]]:
    query = select(Job.project_id, Job.datasets).where(Job.status.not_in(TERMINAL_STATUSES))
    return {
        (project_id, mount["snapshot_id"])
        for project_id, mounts in session.execute(query)
        for mount in mounts
        if mount.get("snapshot_id") is not None
    }
