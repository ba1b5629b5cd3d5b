"""Who is in an organization, as what; leaving it."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, NotFoundError
from periflow_server.db import organization as db
from periflow_server.db.base import Session
from periflow_server.db.key import forget_keys
from periflow_server.db.project import leave_projects, projects_in
from periflow_server.permissions import Role, role_named
from periflow_server.services import audit
from periflow_server.services.organization import OrganizationAccess


def members(
    session: Session, access: OrganizationAccess, cursor: str | None, limit: int
) -> tuple[list[m.OrganizationMember], str | None]:
    """Who is in the organization, by username, and the cursor of what follows."""
    rows = db.members_of(session, access.organization_id, after=cursor, limit=limit + 1)
    items = [_wire(row) for row in rows[:limit]]
    return items, items[-1].username if len(rows) > limit else None


def set_role(
    session: Session, access: OrganizationAccess, username: str, text: str
) -> m.OrganizationMember:
    """Give a member another role.

    Raises:
        InvalidRequestError: no such role (``unknown_role``).
        NotFoundError: no such member (``member_not_found``).
        ConflictError: nobody would own the organization (``last_owner``).
    """
    role = role_named(text, "organization")
    organization = db.locked_organization(session, access.organization_id)
    row = _find(session, organization, username)
    if role is Role.MEMBER:
        _require_other_owner(session, organization, row)
    row[0].role = "owner" if role is Role.OWNER else "member"
    audit.note(session, access, "membership.role", f"{row[1].username} as {role}")
    return _wire(row)


def remove(session: Session, access: OrganizationAccess, username: str) -> None:
    """Take a member out of the organization and its projects, from the next request on.

    Raises:
        NotFoundError: no such member (``member_not_found``).
        ConflictError: nobody would own the organization (``last_owner``).
    """
    organization = db.locked_organization(session, access.organization_id)
    row = _find(session, organization, username)
    _remove(session, organization, row)
    audit.note(session, access, "membership.remove", row[1].username)


def leave(session: Session, access: OrganizationAccess) -> None:
    """Leave the organization.

    Raises:
        ConflictError: nobody would own the organization (``last_owner``).
    """
    organization = db.locked_organization(session, access.organization_id)
    row = _find(session, organization, access.user_id)
    _remove(session, organization, row)
    audit.note(session, access, "membership.leave", row[1].username)


def member_not_found(name: str, organization: str) -> NotFoundError:
    """The answer for people outside an organization, whether they exist or not."""
    return NotFoundError(
        f"{name} is not in organization {organization}.",
        code="member_not_found",
        hint="Run `pf org members` to see who is, or `pf org invite EMAIL` first.",
    )


def _remove(session: Session, organization: db.Organization, row: db.MemberRow) -> None:
    _require_other_owner(session, organization, row)
    membership, user = row
    projects = projects_in(organization.id)
    leave_projects(session, user.id, projects)
    forget_keys(session, user.id, projects)
    session.delete(membership)


def _find(session: Session, organization: db.Organization, name: str) -> db.MemberRow:
    row = db.member_named(session, organization.id, name)
    if row is None:
        raise member_not_found(name, organization.name)
    return row


def _require_other_owner(
    session: Session, organization: db.Organization, row: db.MemberRow
) -> None:
    if [user.id for user in db.owners_of(session, organization.id)] == [row[1].id]:
        raise ConflictError(
            f"{row[1].username} is the last owner of organization {organization.name}.",
            code="last_owner",
            hint="Run `pf org set-role USERNAME owner` for somebody else first, "
            "or `pf org delete`.",
        )


def _wire(row: db.MemberRow) -> m.OrganizationMember:
    membership, user = row
    return m.OrganizationMember(
        id=user.id,
        username=user.username,
        name=user.name,
        email=user.email,
        role=membership.role,
        joined_at=membership.created_at,
    )
