"""Invitations into organizations. Their codes are kept only as hashes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import ForeignKey, Select, String, UniqueConstraint, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, new_id, utcnow
from periflow_server.db.user import User

InvitationStatus = Literal["pending", "accepted", "revoked"]


class Invitation(Base):
    """An address that was invited: one row for each address of an organization, used again.

    ``mail_id`` names the mail that carries the code.
    """

    __tablename__ = "invitations"
    __table_args__ = (UniqueConstraint("organization_id", "email"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    email: Mapped[str]
    code_hash: Mapped[str] = mapped_column(unique=True)
    status: Mapped[InvitationStatus] = mapped_column(String, default="pending")
    mail_id: Mapped[str | None]
    invited_by: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]


InvitationRow = tuple[Invitation, str]
"""An invitation and the username of who invited."""


def invitations_of(
    session: Session, organization_id: str, *, after: str | None, limit: int
) -> list[InvitationRow]:
    """The invitations of an organization by address, those after the address ``after``."""
    query = _rows(organization_id).order_by(Invitation.email).limit(limit)
    if after is not None:
        query = query.where(Invitation.email > after)
    return [(row[0], row[1]) for row in session.execute(query)]


def find_invitation(session: Session, organization_id: str, name: str) -> InvitationRow | None:
    """The organization's invitation of this address or id."""
    query = _rows(organization_id).where(
        or_(Invitation.email == name.lower(), Invitation.id == name)
    )
    row = session.execute(query.limit(1)).first()
    return (row[0], row[1]) if row else None


def invitation_with_code(session: Session, code_hash: str) -> Invitation | None:
    """The invitation of this code."""
    return session.scalars(select(Invitation).where(Invitation.code_hash == code_hash)).first()


def _rows(organization_id: str) -> Select[Invitation, str]:
    return (
        select(Invitation, User.username)
        .join(User, User.id == Invitation.invited_by)
        .where(Invitation.organization_id == organization_id)
    )
