"""Projects and who works in them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ForeignKey,
    Index,
    Select,
    String,
    UniqueConstraint,
    and_,
    bindparam,
    delete,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, lock, new_id, utcnow
from periflow_server.db.organization import Membership, OrganizationRole, locked_organization
from periflow_server.db.user import User

ProjectRole = Literal["admin", "maintainer", "developer", "guest"]


class Project(Base):
    """A project. With ``deleted_at`` nobody finds it: what it had is removed in the background.

    Limits in bytes on what it stores: ``storage_quota`` is that of its organization, and
    ``storage_limit`` that of the server's administrator, -1 for none, None for the server's own.
    ``last_job_number`` is the highest that was ever given: not one comes twice.
    """

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("organization_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    deleted_at: Mapped[datetime | None]
    storage_quota: Mapped[int | None] = mapped_column(BigInteger)
    storage_limit: Mapped[int | None] = mapped_column(BigInteger)
    last_job_number: Mapped[int] = mapped_column(default=0, server_default="0")


class ProjectMember(Base):
    __tablename__ = "project_members"
    __table_args__ = (Index(None, "user_id"),)

    project_id: Mapped[str] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[ProjectRole] = mapped_column(String)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


ProjectRow = tuple[Project, OrganizationRole, ProjectRole | None]


def project_named(session: Session, organization_id: str, name: str) -> Project | None:
    """The project of this name in the organization."""
    query = select(Project).where(Project.organization_id == organization_id, Project.name == name)
    return session.scalars(query).first()


def locked_project(session: Session, project_id: str) -> Project:
    """The project, held until the end of the transaction, and its organization before it."""
    project = session.get_one(Project, project_id)
    locked_organization(session, project.organization_id)
    return lock(session, project)


def project_of_member(session: Session, project_id: str, user_id: str) -> ProjectRow | None:
    """The project with the user's roles in the organization and in it.

    Returns:
        None when he is not in the organization; the project's role is None when he is only there.
    """
    row = session.execute(_OF_MEMBER, {"user_id": user_id, "project_id": project_id}).first()
    return (row[0], row[1], row[2]) if row else None


def projects_of(
    session: Session, organization_id: str, user_id: str, *, after: str | None, limit: int
) -> list[ProjectRow]:
    """The projects that the user can see in the organization, by name."""
    query = (
        _with_roles(user_id)
        .where(
            Project.organization_id == organization_id,
            or_(ProjectMember.role.is_not(None), Membership.role == "owner"),
        )
        .order_by(Project.name)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Project.name > after)
    return [(row[0], row[1], row[2]) for row in session.execute(query)]


TeamRow = tuple[User, OrganizationRole, ProjectMember | None]
"""A user with his role in the organization; no ``ProjectMember`` for an owner who was not added."""


def team_of(
    session: Session, project: Project, *, after: str | None = None, limit: int = 500
) -> list[TeamRow]:
    """Who works in the project by username: those who were added, and the owners."""
    query = _team(project).order_by(User.username).limit(limit)
    if after is not None:
        query = query.where(User.username > after)
    return [(row[0], row[1], row[2]) for row in session.execute(query)]


def team_member_named(session: Session, project: Project, name: str) -> TeamRow | None:
    """The one of this username, email address or id among those who work in the project."""
    query = _team(project).where(
        or_(User.username == name, User.email == name.lower(), User.id == name)
    )
    row = session.execute(query.order_by(User.username != name).limit(1)).first()
    return (row[0], row[1], row[2]) if row else None


def leave_projects(session: Session, user_id: str, projects: Select[str]) -> None:
    """Take a user out of projects."""
    session.execute(
        delete(ProjectMember).where(
            ProjectMember.user_id == user_id, ProjectMember.project_id.in_(projects)
        )
    )


def projects_in(organization_id: str) -> Select[str]:
    """The ids of an organization's projects, to ask with."""
    return select(Project.id).where(Project.organization_id == organization_id)


def _team(project: Project) -> Select[User, OrganizationRole, ProjectMember]:
    return (
        select(User, Membership.role, ProjectMember)
        .join(Membership, Membership.user_id == User.id)
        .outerjoin(
            ProjectMember,
            and_(ProjectMember.project_id == project.id, ProjectMember.user_id == User.id),
        )
        .where(
            Membership.organization_id == project.organization_id,
            or_(ProjectMember.role.is_not(None), Membership.role == "owner"),
        )
    )


def _with_roles(
    user_id: str | BindParameter[str],
) -> Select[Project, OrganizationRole, ProjectRole | None]:
    return (
        select(Project, Membership.role, ProjectMember.role)
        .join(
            Membership,
            and_(
                Membership.organization_id == Project.organization_id,
                Membership.user_id == user_id,
            ),
        )
        .outerjoin(
            ProjectMember,
            and_(ProjectMember.project_id == Project.id, ProjectMember.user_id == user_id),
        )
        .where(Project.deleted_at.is_(None))
    )


_OF_MEMBER = _with_roles(bindparam("user_id")).where(Project.id == bindparam("project_id"))
"""Made once: nearly every request asks this, and to make it takes as long as to ask it."""
