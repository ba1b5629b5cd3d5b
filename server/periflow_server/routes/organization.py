"""Organizations of the user."""

from __future__ import annotations

from fastapi import APIRouter, Response

from periflow_sdk.api import models as m
from periflow_server.routes.dependencies import (
    CurrentSettings,
    CurrentUser,
    Cursor,
    Db,
    Limit,
    Once,
    Page,
)
from periflow_server.services import organization

router = APIRouter(tags=["organizations"])


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
    user: CurrentUser, database: Db, cursor: Cursor = None, limit: Limit = 100
) -> Page[m.Organization]:
    """The organizations the user is in, by name."""
    with database.read() as session:
        items, following = organization.organizations(session, user.id, cursor, limit)
    return Page(items=items, next_cursor=following)
