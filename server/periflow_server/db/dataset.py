"""Datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Select,
    UniqueConstraint,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_sdk.api.models import TERMINAL_STATUSES
from periflow_server.db.base import Base, new_id, utcnow
from periflow_server.db.job import Job
from periflow_server.db.project import Project
from periflow_server.db.snapshot import Snapshot
from periflow_server.db.user import User


class Dataset(Base):
    """A named snapshot of a project, or a link. Names are unique in the organization.

    ``snapshot_id`` is that of the newest version, ``version`` its number. A link has neither, but
    ``credential_id``: no foreign key, since a credential may be deleted although it is in use.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("organization_id", "name"),
        ForeignKeyConstraint(
            ["project_id", "snapshot_id"], ["snapshots.project_id", "snapshots.id"]
        ),
        Index(None, "project_id"),
        Index(None, "credential_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    cloud: Mapped[str] = mapped_column(default="fai")
    region: Mapped[str | None]
    storage_name: Mapped[str | None]
    prefix: Mapped[str] = mapped_column(default="", server_default="")
    endpoint_url: Mapped[str | None]
    credential_id: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=True)
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSON, default=dict)
    snapshot_id: Mapped[str | None]
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class DatasetVersion(Base):
    """What a dataset was uploaded as; each keeps its snapshot as long as the dataset is there."""

    __tablename__ = "dataset_versions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["project_id", "snapshot_id"], ["snapshots.project_id", "snapshots.id"]
        ),
        Index(None, "project_id", "snapshot_id"),
    )

    dataset_id: Mapped[str] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    snapshot_id: Mapped[str]
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


DatasetRow = tuple[Dataset, str, Snapshot | None]
"""A dataset, the name of the user who created it, and its snapshot."""
VersionRow = tuple[DatasetVersion, str, Snapshot]
"""The same of a version."""


def is_name_taken(session: Session, organization_id: str, name: str) -> bool:
    """Whether a dataset of the organization has this name."""
    query = select(Dataset.id).where(
        Dataset.organization_id == organization_id, Dataset.name == name
    )
    return session.scalars(query).first() is not None


def datasets_of(
    session: Session, project_id: str, *, after: str | None, limit: int
) -> list[DatasetRow]:
    """The project's datasets by name, those after the name ``after``."""
    query = _rows(project_id).order_by(Dataset.name).limit(limit)
    if after is not None:
        query = query.where(Dataset.name > after)
    return [(row[0], row[1], row[2]) for row in session.execute(query)]


def find_dataset(session: Session, project_id: str, name: str) -> DatasetRow | None:
    """The project's dataset of this name or id; the name wins."""
    query = _rows(project_id).where(or_(Dataset.name == name, Dataset.id == name))
    row = session.execute(query.order_by(Dataset.name != name).limit(1)).first()
    return (row[0], row[1], row[2]) if row else None


def dataset_with_id(session: Session, project_id: str, id: str) -> DatasetRow | None:
    """The project's dataset of this id."""
    row = session.execute(_rows(project_id).where(Dataset.id == id)).first()
    return (row[0], row[1], row[2]) if row else None


def versions_of(
    session: Session, dataset_id: str, *, before: int | None = None, limit: int
) -> list[VersionRow]:
    """The versions, the newest first, those before a number."""
    query = _version_rows(dataset_id).order_by(DatasetVersion.version.desc()).limit(limit)
    if before is not None:
        query = query.where(DatasetVersion.version < before)
    return [(row[0], row[1], row[2]) for row in session.execute(query)]


def version_numbered(session: Session, dataset_id: str, version: int) -> DatasetVersion | None:
    """The version of this number."""
    return session.get(DatasetVersion, (dataset_id, version))


def linked_with(session: Session, credential_id: str) -> list[tuple[Dataset, Project]]:
    """The datasets that are linked with a credential, with their projects."""
    query = (
        select(Dataset, Project)
        .join(Project, Project.id == Dataset.project_id)
        .where(Dataset.credential_id == credential_id, Project.deleted_at.is_(None))
        .order_by(Project.name, Dataset.name)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def jobs_reading(session: Session, dataset: Dataset) -> list[Job]:
    """The project's jobs that have not ended and read a dataset, by number."""
    query = select(Job).where(
        Job.project_id == dataset.project_id, Job.status.not_in(TERMINAL_STATUSES)
    )
    return [
        job
        for job in session.scalars(query.order_by(Job.number))
        if any(_is_of(mount, dataset) for mount in job.datasets)
    ]


def _is_of(mount: dict[str, Any], dataset: Dataset) -> bool:
    # Jobs of before there were versions do not say which dataset it was.
    if "dataset_id" in mount:
        return bool(mount["dataset_id"] == dataset.id)
    return dataset.snapshot_id is not None and mount.get("snapshot_id") == dataset.snapshot_id


def _version_rows(dataset_id: str) -> Select[DatasetVersion, str, Snapshot]:
    return (
        select(DatasetVersion, User.username, Snapshot)
        .join(User, User.id == DatasetVersion.created_by)
        .join(
            Snapshot,
            (Snapshot.project_id == DatasetVersion.project_id)
            & (Snapshot.id == DatasetVersion.snapshot_id),
        )
        .where(DatasetVersion.dataset_id == dataset_id)
    )


def _rows(project_id: str) -> Select[Dataset, str, Snapshot | None]:
    return (
        select(Dataset, User.username, Snapshot)
        .join(User, User.id == Dataset.created_by)
        .outerjoin(
            Snapshot,
            (Snapshot.project_id == Dataset.project_id) & (Snapshot.id == Dataset.snapshot_id),
        )
        .where(Dataset.project_id == project_id)
    )
