"""Projects of an organization, who works in them, and what roles may do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import PERMISSIONS, Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    Cursor,
    Db,
    Limit,
    Once,
    Page,
    organization_access,
    project_access,
)
from periflow_server.services import project as service
from periflow_server.services import team
from periflow_server.services.access import ProjectAccess
from periflow_server.services.organization import OrganizationAccess

router = APIRouter(prefix=PREFIX, tags=["projects"])


@router.post("/organizations/{organization}/projects", status_code=201, response_model=m.Project)
def create_project(
    access: Annotated[OrganizationAccess, organization_access(Action.PROJECT_CREATE)],
    body: m.ProjectCreate,
    once: Once,
) -> Response:
    """Make a project; its maker is its admin."""
    return once(access.user_id, lambda session: service.create_project(session, access, body))


@router.get("/organizations/{organization}/projects")
def list_projects(
    access: Annotated[OrganizationAccess, organization_access(Action.ORGANIZATION_READ, keys=True)],
    database: Db,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[m.Project]:
    """The projects the user can see, by name."""
    with database.read() as session:
        items, following = service.projects(session, access, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.get("/projects/{project}")
def project(
    access: Annotated[ProjectAccess, project_access(Action.PROJECT_READ)], database: Db
) -> m.Project:
    """One project."""
    with database.read() as session:
        return service.project(session, access)


@router.delete("/projects/{project}", status_code=204)
def delete_project(
    access: Annotated[ProjectAccess, project_access(Action.PROJECT_DELETE)],
    database: Db,
    request: Request,
) -> None:
    """Delete a project with all its jobs, datasets and checkpoints."""
    with database.write() as session:
        service.delete_project(session, access)
    request.app.state.tidy.set()


@router.get("/projects/{project}/members")
def list_members(
    access: Annotated[ProjectAccess, project_access(Action.PROJECT_READ)],
    database: Db,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[m.ProjectMember]:
    """Who works in the project, by username; owners of the organization are among them."""
    with database.read() as session:
        items, following = team.members(session, access, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.post("/projects/{project}/members", status_code=201, response_model=m.ProjectMember)
def add_member(
    access: Annotated[ProjectAccess, project_access(Action.MEMBER_MANAGE)],
    body: m.ProjectMemberAdd,
    once: Once,
) -> Response:
    """Add somebody of the organization to the project."""
    return once(access.user_id, lambda session: team.add(session, access, body))


@router.patch("/projects/{project}/members/{username}")
def set_role(
    access: Annotated[ProjectAccess, project_access(Action.MEMBER_MANAGE)],
    username: str,
    body: m.RoleChange,
    database: Db,
) -> m.ProjectMember:
    """Give somebody in the project another role."""
    with database.write() as session:
        return team.set_role(session, access, username, body.role)


@router.delete("/projects/{project}/members/{username}", status_code=204)
def remove_member(
    access: Annotated[ProjectAccess, project_access(Action.MEMBER_MANAGE)],
    username: str,
    database: Db,
) -> None:
    """Take somebody out of the project."""
    with database.write() as session:
        team.remove(session, access, username)


@router.get("/permissions")
async def list_permissions() -> Page[m.Permission]:
    """What each role may do; open to all."""
    items = [
        m.Permission(
            action=each.action,
            words=each.words,
            scope=each.scope,
            roles=[str(role) for role in each.roles],
        )
        for each in PERMISSIONS
    ]
    return Page(items=items)
