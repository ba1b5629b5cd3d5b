"""Projects: made and listed."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, ForbiddenError
from periflow_server.db import project as db
from periflow_server.db.base import Session
from periflow_server.db.organization import Organization
from periflow_server.permissions import Role, project_role
from periflow_server.services.access import ProjectAccess
from periflow_server.services.organization import OrganizationAccess


def create_project(
    session: Session, access: OrganizationAccess, body: m.ProjectCreate
) -> m.Project:
    """Make a project with the caller as its admin.

    Raises:
        ForbiddenError: the organization waits for its approval (``organization_staged``).
        ConflictError: the organization has a project of this name (``project_exists``).
    """
    if session.get_one(Organization, access.organization_id).status != "active":
        raise ForbiddenError(
            "The organization waits for its approval.",
            code="organization_staged",
            hint="An administrator approves it with `pf-server admin approve-org NAME`.",
        )
    if db.project_named(session, access.organization_id, body.name) is not None:
        raise ConflictError(
            f"A project named {body.name} exists already in this organization.",
            code="project_exists",
            hint=f"Choose another name, or run `pf project switch {body.name}`.",
        )
    project = db.Project(organization_id=access.organization_id, name=body.name)
    session.add(project)
    session.flush()
    session.add(db.ProjectMember(project_id=project.id, user_id=access.user_id, role="admin"))
    return _wire(project, Role.ADMIN)


def projects(
    session: Session, access: OrganizationAccess, cursor: str | None, limit: int
) -> tuple[list[m.Project], str | None]:
    """The projects the caller can see in the organization, and the cursor of what follows."""
    rows = db.projects_of(
        session, access.organization_id, access.user_id, after=cursor, limit=limit + 1
    )
    items = []
    for project, organization_role, member_role in rows[:limit]:
        role = project_role(Role(organization_role), Role(member_role) if member_role else None)
        items.append(_wire(project, role or Role.GUEST))
    return items, items[-1].name if len(rows) > limit else None


def project(session: Session, access: ProjectAccess) -> m.Project:
    """One project, as the caller sees it."""
    return _wire(session.get_one(db.Project, access.project_id), access.role)


def _wire(project: db.Project, role: Role) -> m.Project:
    return m.Project.model_validate(
        {
            "id": project.id,
            "name": project.name,
            "organization_id": project.organization_id,
            "role": "admin" if role is Role.OWNER else role.value,
            "created_at": project.created_at,
        }
    )
