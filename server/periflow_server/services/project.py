"""Projects: made, listed and deleted."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError
from periflow_server.db import project as db
from periflow_server.db.base import Session, utcnow
from periflow_server.db.deletion import hide_project, unfinished_jobs
from periflow_server.permissions import Role, project_role
from periflow_server.services import audit
from periflow_server.services.access import ProjectAccess
from periflow_server.services.organization import OrganizationAccess, counted
from periflow_server.services.usage import keep_usage


def create_project(
    session: Session, access: OrganizationAccess, body: m.ProjectCreate
) -> m.Project:
    """Make a project with the caller as its admin.

    Raises:
        ConflictError: the organization has a project of this name (``project_exists``).
    """
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
    audit.note(session, access, "project.create", project.name)
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
        if access.project_id not in (None, project.id):
            continue
        role = project_role(Role(organization_role), Role(member_role) if member_role else None)
        items.append(_wire(project, role or Role.GUEST))
    return items, rows[limit - 1][0].name if len(rows) > limit else None


def project(session: Session, access: ProjectAccess) -> m.Project:
    """One project, as the caller sees it."""
    return _wire(session.get_one(db.Project, access.project_id), access.role)


def delete_project(session: Session, access: ProjectAccess) -> None:
    """Delete a project. What it had goes in the background, what it used stays known.

    Raises:
        ConflictError: jobs of it have not ended (``project_busy``).
    """
    project = db.locked_project(session, access.project_id)
    busy = unfinished_jobs(session, project_id=project.id)
    if busy:
        raise ConflictError(
            f"Project {project.name} has {counted(len(busy), 'job')} that did not end yet.",
            code="project_busy",
            hint=f"Wait for them, or stop them: `pf job stop {busy[0][1]}`.",
            data={"jobs": [number for _, number in busy]},
        )
    audit.note(session, access, "project.delete", project.name)
    keep_usage(session, project)
    hide_project(project, utcnow())


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
