"""Projects of an organization."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
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
from periflow_server.services.access import ProjectAccess
from periflow_server.services.organization import OrganizationAccess

router = APIRouter(tags=["projects"])


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
    access: Annotated[OrganizationAccess, organization_access(Action.ORGANIZATION_READ)],
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
