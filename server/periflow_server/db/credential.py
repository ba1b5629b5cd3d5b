"""Credentials of projects and of whole organizations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    ForeignKey,
    Index,
    Select,
    String,
    Text,
    UniqueConstraint,
    and_,
    cast,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_sdk.api.models import CredentialType
from periflow_server.db.base import Base, new_id, utcnow
from periflow_server.db.job import ACTIVE, Job
from periflow_server.db.notification import Notification
from periflow_server.db.project import Project
from periflow_server.db.user import User


class Credential(Base):
    """A credential. ``scope_id`` is the project it belongs to, or the organization.

    ``sealed`` has the values, ``details`` what people may see of them.
    """

    __tablename__ = "credentials"
    __table_args__ = (UniqueConstraint("scope_id", "name"), Index(None, "organization_id"))

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    scope_id: Mapped[str]
    name: Mapped[str]
    type: Mapped[CredentialType] = mapped_column(String)
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    sealed: Mapped[str] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow)
    verified_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


CredentialRow = tuple[Credential, str]
"""A credential and the name of the user who made it."""


def is_name_taken(session: Session, scope_id: str, name: str) -> bool:
    """Whether a credential of the project, or of the organization itself, has this name."""
    query = select(Credential.id).where(Credential.scope_id == scope_id, Credential.name == name)
    return session.scalars(query).first() is not None


def credentials_of(
    session: Session,
    organization_id: str,
    project_id: str | None,
    *,
    type: str | None,
    after: tuple[str, str] | None,
    limit: int,
) -> list[CredentialRow]:
    """By name: those of the organization, and of the project if one is given.

    Args:
        after: The name and id of the last one known.
    """
    query = _rows(organization_id, project_id).order_by(Credential.name, Credential.id)
    if type is not None:
        query = query.where(Credential.type == type)
    if after is not None:
        name, id = after
        same = and_(Credential.name == name, Credential.id > id)
        query = query.where(or_(Credential.name > name, same))
    return [(row[0], row[1]) for row in session.execute(query.limit(limit))]


def credential_named(
    session: Session, organization_id: str, project_id: str | None, name: str
) -> CredentialRow | None:
    """The one of this id or name. A name of the project hides that of the organization."""
    query = _rows(organization_id, project_id)
    query = query.where(or_(Credential.name == name, Credential.id == name))
    order = (Credential.id != name, Credential.project_id.is_(None))
    row = session.execute(query.order_by(*order).limit(1)).first()
    return (row[0], row[1]) if row else None


def credential_with_id(
    session: Session, organization_id: str, project_id: str, id: str
) -> Credential | None:
    """The one of this id, if the project sees it."""
    row = session.execute(_rows(organization_id, project_id).where(Credential.id == id)).first()
    return row[0] if row else None


def credentials_with_prefix(
    session: Session, organization_id: str, project_id: str | None, prefix: str
) -> list[CredentialRow]:
    """Those whose ids start so."""
    query = _rows(organization_id, project_id)
    query = query.where(Credential.id.startswith(prefix, autoescape=True))
    return [(row[0], row[1]) for row in session.execute(query.limit(10))]


def jobs_with(session: Session, credential: Credential) -> list[tuple[Job, Project]]:
    """The jobs that have not ended and have the credential's id in their file, with projects."""
    query = (
        select(Job, Project)
        .join(Project, Project.id == Job.project_id)
        .where(Project.organization_id == credential.organization_id)
        .where(Job.status.in_(("waiting", *ACTIVE)))
        .where(cast(Job.spec, Text).contains(credential.id))
        .order_by(Project.name, Job.number)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def rules_with(session: Session, credential_id: str) -> list[tuple[Notification, Project]]:
    """The notifications that are sent with a credential, with their projects."""
    query = (
        select(Notification, Project)
        .join(Project, Project.id == Notification.project_id)
        .where(Notification.credential_id == credential_id)
        .order_by(Project.name, Notification.id)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def _rows(organization_id: str, project_id: str | None) -> Select[Credential, str]:
    shared = Credential.project_id.is_(None)
    seen = shared if project_id is None else or_(shared, Credential.project_id == project_id)
    return (
        select(Credential, User.username)
        .join(User, User.id == Credential.created_by)
        .where(Credential.organization_id == organization_id, seen)
    )
