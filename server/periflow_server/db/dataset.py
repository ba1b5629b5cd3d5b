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

from periflow_server.db.base import Base, new_id, utcnow
from periflow_server.db.snapshot import Snapshot
from periflow_server.db.user import User


class Dataset(Base):
    """A named snapshot of a project. Names are unique in the organization."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("organization_id", "name"),
        ForeignKeyConstraint(
            ["project_id", "snapshot_id"], ["snapshots.project_id", "snapshots.id"]
        ),
        Index(None, "project_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    cloud: Mapped[str] = mapped_column(default="fai")
    region: Mapped[str | None]
    storage_name: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=True)
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSON, default=dict)
    snapshot_id: Mapped[str | None]
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


DatasetRow = tuple[Dataset, str, Snapshot | None]
"""A dataset, the name of the user who created it, and its snapshot."""


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
