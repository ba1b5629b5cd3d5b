"""Organizations and who is in them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import ForeignKey, Index, Select, String, func, or_, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, lock, new_id, utcnow
from periflow_server.db.user import User

OrganizationStatus = Literal["staged", "active", "refused"]
OrganizationRole = Literal["owner", "member"]


class Organization(Base):
    """An organization. ``refusal`` says why it was refused.

    With ``deleted_at`` it is nobody's: what it had is removed in the background.
    """

    __tablename__ = "organizations"
    __table_args__ = (Index("ix_organizations_name_lower", text("lower(name)"), unique=True),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    status: Mapped[OrganizationStatus] = mapped_column(String)
    refusal: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    deleted_at: Mapped[datetime | None]


class Membership(Base):
    __tablename__ = "memberships"
    __table_args__ = (Index(None, "user_id"),)

    organization_id: Mapped[str] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[OrganizationRole] = mapped_column(String)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


def organization_named(session: Session, name: str) -> Organization | None:
    """The organization of this name."""
    return session.scalars(select(Organization).where(Organization.name == name)).first()


def organization_like(session: Session, name: str) -> Organization | None:
    """The organization whose name differs from this one by case at most."""
    query = select(Organization).where(func.lower(Organization.name) == name.lower())
    return session.scalars(query).first()


MemberRow = tuple[Membership, User]
"""A membership and the user it is about."""


def locked_organization(session: Session, organization_id: str) -> Organization:
    """The organization, held until the end of the transaction: who changes owners takes turns."""
    return lock(session, session.get_one(Organization, organization_id))


def all_organizations(
    session: Session, status: OrganizationStatus | None = None
) -> list[tuple[Organization, list[str]]]:
    """Every organization of the server by name, with the usernames of its owners."""
    query = select(Organization).where(Organization.deleted_at.is_(None))
    if status is not None:
        query = query.where(Organization.status == status)
    owners: dict[str, list[str]] = {}
    names = (
        select(Membership.organization_id, User.username)
        .join(User, User.id == Membership.user_id)
        .where(Membership.role == "owner")
        .order_by(User.username)
    )
    for organization_id, username in session.execute(names):
        owners.setdefault(organization_id, []).append(username)
    found = session.scalars(query.order_by(Organization.name))
    return [(each, owners.get(each.id, [])) for each in found]


def members_of(
    session: Session, organization_id: str, *, after: str | None = None, limit: int = 500
) -> list[MemberRow]:
    """Who is in the organization, by username, those after the username ``after``."""
    query = _members(organization_id).order_by(User.username).limit(limit)
    if after is not None:
        query = query.where(User.username > after)
    return [(row[0], row[1]) for row in session.execute(query)]


def member_named(session: Session, organization_id: str, name: str) -> MemberRow | None:
    """The member of this username, email address or id."""
    query = _members(organization_id).where(
        or_(User.username == name, User.email == name.lower(), User.id == name)
    )
    row = session.execute(query.order_by(User.username != name).limit(1)).first()
    return (row[0], row[1]) if row else None


def member_names(session: Session, organization_id: str) -> set[str]:
    """The usernames of everybody in the organization."""
    return {row[1].username for row in session.execute(_members(organization_id))}


def owners_of(session: Session, organization_id: str) -> list[User]:
    """The owners of the organization."""
    query = _members(organization_id).where(Membership.role == "owner").order_by(User.username)
    return [row[1] for row in session.execute(query)]


def _members(organization_id: str) -> Select[Membership, User]:
    return (
        select(Membership, User)
        .join(User, User.id == Membership.user_id)
        .where(Membership.organization_id == organization_id)
    )


def organization_of_member(
    session: Session, organization_id: str, user_id: str
) -> tuple[Organization, OrganizationRole] | None:
    """The organization and the user's role in it; None when he is not in it."""
    query = (
        select(Organization, Membership.role)
        .join(Membership, Membership.organization_id == Organization.id)
        .where(Organization.id == organization_id, Membership.user_id == user_id)
    )
    row = session.execute(query).first()
    return (row[0], row[1]) if row else None


def organizations_of(
    session: Session, user_id: str, *, after: str | None, limit: int
) -> list[tuple[Organization, OrganizationRole]]:
    """The user's organizations by name, those after the name ``after``."""
    query = (
        select(Organization, Membership.role)
        .join(Membership, Membership.organization_id == Organization.id)
        .where(Membership.user_id == user_id)
        .order_by(Organization.name)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Organization.name > after)
    return [(row[0], row[1]) for row in session.execute(query)]
