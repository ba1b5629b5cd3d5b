"""Organizations of the user, their members and what they used."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentReader,
    CurrentSettings,
    CurrentUser,
    Cursor,
    Db,
    Limit,
    Once,
    Page,
    organization_access,
)
from periflow_server.services import membership, organization
from periflow_server.services import usage as usages
from periflow_server.services.organization import OrganizationAccess

router = APIRouter(prefix=PREFIX, tags=["organizations"])

Month = Annotated[str | None, Query(max_length=20, description="A month (UTC), as 2024-05")]


@router.post("/organizations", status_code=201, response_model=m.Organization)
def create_organization(
    user: CurrentUser, body: m.OrganizationCreate, once: Once, settings: CurrentSettings
) -> Response:
    """Make an organization; its maker is its owner."""
    return once(
        user.id,
        lambda session: organization.create_organization(session, body, user.id, settings),
    )


@router.get("/organizations")
def list_organizations(
    user: CurrentReader, database: Db, cursor: Cursor = None, limit: Limit = 100
) -> Page[m.Organization]:
    """The organizations the user is in, by name."""
    with database.read() as session:
        items, following = organization.organizations(session, user.id, cursor, limit, key=user.key)
    return Page(items=items, next_cursor=following)


@router.delete("/organizations/{organization}", status_code=204)
def delete_organization(
    access: Annotated[OrganizationAccess, organization_access(Action.ORGANIZATION_DELETE)],
    database: Db,
    request: Request,
) -> None:
    """Delete an organization with all its projects."""
    with database.write() as session:
        organization.delete_organization(session, access)
    request.app.state.tidy.set()


@router.get("/organizations/{organization}/members")
def list_members(
    access: Annotated[OrganizationAccess, organization_access(Action.ORGANIZATION_READ)],
    database: Db,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[m.OrganizationMember]:
    """Who is in the organization, by username."""
    with database.read() as session:
        items, following = membership.members(session, access, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.patch("/organizations/{organization}/members/{username}")
def set_role(
    access: Annotated[OrganizationAccess, organization_access(Action.MEMBERSHIP_MANAGE)],
    username: str,
    body: m.RoleChange,
    database: Db,
) -> m.OrganizationMember:
    """Give a member another role."""
    with database.write() as session:
        return membership.set_role(session, access, username, body.role)


@router.delete("/organizations/{organization}/members/{username}", status_code=204)
def remove_member(
    access: Annotated[OrganizationAccess, organization_access(Action.MEMBERSHIP_MANAGE)],
    username: str,
    database: Db,
) -> None:
    """Take a member out of the organization and its projects."""
    with database.write() as session:
        membership.remove(session, access, username)


@router.delete("/organizations/{organization}/membership", status_code=204)
def leave(
    access: Annotated[OrganizationAccess, organization_access(Action.ORGANIZATION_LEAVE)],
    database: Db,
) -> None:
    """Leave the organization."""
    with database.write() as session:
        membership.leave(session, access)


@router.get("/organizations/{organization}/usage")
def usage(
    access: Annotated[OrganizationAccess, organization_access(Action.USAGE_READ)],
    database: Db,
    since: Month = None,
    until: Month = None,
) -> Page[m.Usage]:
    """Device hours by month, project and user, all in one page."""
    with database.read() as session:
        return Page(items=usages.usage(session, access.organization_id, since, until))
