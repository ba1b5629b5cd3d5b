"""Who works in a project, as what."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, NotFoundError
from periflow_server.db import project as db
from periflow_server.db.base import Session
from periflow_server.db.key import forget_keys
from periflow_server.db.organization import Organization, member_named
from periflow_server.permissions import Role, role_named
from periflow_server.services import audit
from periflow_server.services.access import ProjectAccess
from periflow_server.services.membership import member_not_found


def members(
    session: Session, access: ProjectAccess, cursor: str | None, limit: int
) -> tuple[list[m.ProjectMember], str | None]:
    """Who works in the project, by username, and the cursor of what follows."""
    project = session.get_one(db.Project, access.project_id)
    rows = db.team_of(session, project, after=cursor, limit=limit + 1)
    items = [_wire(row) for row in rows[:limit]]
    return items, items[-1].username if len(rows) > limit else None


def add(session: Session, access: ProjectAccess, body: m.ProjectMemberAdd) -> m.ProjectMember:
    """Add somebody of the organization to the project.

    Raises:
        InvalidRequestError: no such role (``unknown_role``).
        NotFoundError: he is not in the organization (``member_not_found``).
        ConflictError: he is in the project already (``project_member_exists``), or owns the
            organization (``owner_role``).
    """
    role = role_named(body.role, "project")
    project = db.locked_project(session, access.project_id)
    organization = session.get_one(Organization, project.organization_id)
    found = member_named(session, organization.id, body.username)
    if found is None:
        raise member_not_found(body.username, organization.name)
    membership, user = found
    if membership.role == "owner":
        _require_admin(user.username, role)
    there = session.get(db.ProjectMember, (project.id, user.id))
    if there is not None:
        raise ConflictError(
            f"{user.username} is in project {project.name} already, as {there.role}.",
            code="project_member_exists",
            hint=f"Run `pf project set-role {user.username} {role}` for another role.",
            data={"role": there.role},
        )
    member = db.ProjectMember(project_id=project.id, user_id=user.id, role=_stored(role))
    session.add(member)
    session.flush()
    audit.note(session, access, "member.add", f"{user.username} as {role}")
    return _wire((user, membership.role, member))


def set_role(session: Session, access: ProjectAccess, username: str, text: str) -> m.ProjectMember:
    """Give somebody in the project another role.

    Raises:
        InvalidRequestError: no such role (``unknown_role``).
        NotFoundError: he is not in the project (``project_member_not_found``).
        ConflictError: he owns the organization (``owner_role``).
    """
    role = role_named(text, "project")
    project = db.locked_project(session, access.project_id)
    user, organization_role, member = _find(session, project, username)
    if organization_role == "owner":
        _require_admin(user.username, role)
    if member is None:
        member = db.ProjectMember(project_id=project.id, user_id=user.id, role=_stored(role))
        session.add(member)
        session.flush()
    member.role = _stored(role)
    audit.note(session, access, "member.role", f"{user.username} as {role}")
    return _wire((user, organization_role, member))


def remove(session: Session, access: ProjectAccess, username: str) -> None:
    """Take somebody out of the project, from the next request on.

    Raises:
        NotFoundError: he is not in the project (``project_member_not_found``).
        ConflictError: he owns the organization (``owner_role``).
    """
    project = db.locked_project(session, access.project_id)
    user, organization_role, member = _find(session, project, username)
    if organization_role == "owner":
        raise _owner_role(user.username)
    session.delete(member)
    forget_keys(session, user.id, [project.id])
    audit.note(session, access, "member.remove", user.username)


def _find(session: Session, project: db.Project, name: str) -> db.TeamRow:
    row = db.team_member_named(session, project, name)
    if row is None:
        raise NotFoundError(
            f"{name} is not in project {project.name}.",
            code="project_member_not_found",
            hint=f"Run `pf project members`, or `pf project add-user {name} ROLE` first.",
        )
    return row


def _require_admin(username: str, role: Role) -> None:
    if role is not Role.ADMIN:
        raise _owner_role(username)


def _owner_role(username: str) -> ConflictError:
    return ConflictError(
        f"{username} owns the organization, and so is an admin of all its projects.",
        code="owner_role",
        hint=f"Run `pf org set-role {username} member` first.",
    )


def _stored(role: Role) -> db.ProjectRole:
    roles: dict[Role, db.ProjectRole] = {
        Role.ADMIN: "admin",
        Role.MAINTAINER: "maintainer",
        Role.DEVELOPER: "developer",
        Role.GUEST: "guest",
    }
    return roles[role]


def _wire(row: db.TeamRow) -> m.ProjectMember:
    user, organization_role, member = row
    is_owner = organization_role == "owner"
    return m.ProjectMember(
        id=user.id,
        username=user.username,
        name=user.name,
        email=user.email,
        role="admin" if is_owner or member is None else member.role,
        is_owner=is_owner,
        added_at=member.created_at if member else None,
    )
