"""Invitations into organizations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentSettings,
    CurrentUser,
    Cursor,
    Db,
    Limit,
    Once,
    Page,
    Throttle,
    organization_access,
)
from periflow_server.services import invitation as service
from periflow_server.services.organization import OrganizationAccess
from periflow_server.services.throttle import Limited

router = APIRouter(prefix=PREFIX, tags=["invitations"])

Inviting = Annotated[OrganizationAccess, organization_access(Action.INVITATION_MANAGE)]


@router.post(
    "/organizations/{organization}/invitations", status_code=201, response_model=m.Invitation
)
def invite(
    access: Inviting,
    body: m.InvitationCreate,
    once: Once,
    settings: CurrentSettings,
    throttle: Throttle,
) -> Response:
    """Invite an address: a link and a code go there by mail."""
    throttle(Limited.INVITE, access.user_id)
    throttle(Limited.MAIL, body.email)
    return once(access.user_id, lambda session: service.invite(session, access, body, settings))


@router.get("/organizations/{organization}/invitations")
def list_invitations(
    access: Inviting, database: Db, cursor: Cursor = None, limit: Limit = 100
) -> Page[m.Invitation]:
    """The organization's invitations by address, with what became of their mails."""
    with database.read() as session:
        items, following = service.invitations(session, access, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.post(
    "/organizations/{organization}/invitations/{invitation}/resend",
    status_code=201,
    response_model=m.Invitation,
)
def resend_invitation(
    access: Inviting,
    invitation: str,
    once: Once,
    settings: CurrentSettings,
    throttle: Throttle,
) -> Response:
    """Send a new mail, with a new code, to an invited address (or id)."""
    throttle(Limited.INVITE, access.user_id)
    throttle(Limited.MAIL, f"{access.organization_id}/{invitation}")
    return once(
        access.user_id, lambda session: service.resend(session, access, invitation, settings)
    )


@router.delete("/organizations/{organization}/invitations/{invitation}", status_code=204)
def revoke_invitation(access: Inviting, invitation: str, database: Db) -> None:
    """Take an invitation back, by address or id."""
    with database.write() as session:
        service.revoke(session, access, invitation)


@router.post("/invitations/accept", status_code=201, response_model=m.Organization)
def accept_invitation(
    user: CurrentUser, body: m.InvitationAccept, once: Once, throttle: Throttle
) -> Response:
    """Become a member by the code or the link that was mailed to one's address."""
    throttle(Limited.CODE, user.id)
    return once(user.id, lambda session: service.accept(session, body.code, user.id))
