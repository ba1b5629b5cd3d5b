"""Organizations and who is in them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import ForeignKey, Index, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, new_id, utcnow

OrganizationStatus = Literal["staged", "active"]
OrganizationRole = Literal["owner", "member"]


class Organization(Base):
    __tablename__ = "organizations"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    status: Mapped[OrganizationStatus] = mapped_column(String)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


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
