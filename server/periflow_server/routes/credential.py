"""Credentials of a project, and those that an organization shares. Values only ever come in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentSettings,
    CurrentVault,
    Cursor,
    Db,
    Limit,
    Once,
    Page,
    organization_access,
    project_access,
)
from periflow_server.routes.outgoing import Turn
from periflow_server.services import credential as service
from periflow_server.services.access import ProjectAccess
from periflow_server.services.organization import OrganizationAccess
from periflow_server.verification import check

router = APIRouter(prefix=PREFIX, tags=["credentials"])

_PROJECT = "/projects/{project}/credentials"
_ORGANIZATION = "/organizations/{organization}/credentials"
Verify = Annotated[bool, Query(description="Ask the service whether it takes the credential.")]
Type = Annotated[m.CredentialType | None, Query()]


@router.post(_PROJECT, status_code=201, response_model=m.Credential)
def create_credential(
    access: Annotated[ProjectAccess, project_access(Action.CREDENTIAL_CREATE)],
    body: m.CredentialCreate,
    vault: CurrentVault,
    settings: CurrentSettings,
    once: Once,
    turn: Turn,
    verify: Verify = True,
) -> Response:
    """Store a credential of the project, once its service has taken it."""
    is_verified = check(body, settings, ask=verify)
    return once(
        access.user_id,
        lambda session: service.create(session, vault, access, body, is_verified=is_verified),
    )


@router.post(_ORGANIZATION, status_code=201, response_model=m.Credential)
def share_credential(
    access: Annotated[OrganizationAccess, organization_access(Action.SHARED_CREDENTIAL_CREATE)],
    body: m.CredentialCreate,
    vault: CurrentVault,
    settings: CurrentSettings,
    once: Once,
    turn: Turn,
    verify: Verify = True,
) -> Response:
    """Store a credential for all projects of the organization, once its service has taken it."""
    is_verified = check(body, settings, ask=verify)
    return once(
        access.user_id,
        lambda session: service.create(session, vault, access, body, is_verified=is_verified),
    )


@router.get(_PROJECT)
def list_credentials(
    access: Annotated[ProjectAccess, project_access(Action.CREDENTIAL_READ)],
    database: Db,
    type: Type = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[m.Credential]:
    """The credentials that the project's jobs can name, by name: its own and the shared ones."""
    with database.read() as session:
        items, following = service.credentials(session, access, type, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.get(_ORGANIZATION)
def list_shared_credentials(
    access: Annotated[OrganizationAccess, organization_access(Action.SHARED_CREDENTIAL_READ)],
    database: Db,
    type: Type = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[m.Credential]:
    """The credentials that all projects of the organization share, by name."""
    with database.read() as session:
        items, following = service.credentials(session, access, type, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.get(_PROJECT + "/{credential}")
def credential(
    access: Annotated[ProjectAccess, project_access(Action.CREDENTIAL_READ)],
    credential: str,
    database: Db,
) -> m.Credential:
    """One credential, with what uses it."""
    with database.read() as session:
        return service.detail(session, access, credential)


@router.get(_ORGANIZATION + "/{credential}")
def shared_credential(
    access: Annotated[OrganizationAccess, organization_access(Action.SHARED_CREDENTIAL_READ)],
    credential: str,
    database: Db,
) -> m.Credential:
    """One shared credential, with how much uses it."""
    with database.read() as session:
        return service.detail(session, access, credential)


@router.patch(_PROJECT + "/{credential}")
def update_credential(
    access: Annotated[ProjectAccess, project_access(Action.CREDENTIAL_CHANGE)],
    credential: str,
    body: m.CredentialUpdate,
    database: Db,
    vault: CurrentVault,
    settings: CurrentSettings,
    turn: Turn,
    verify: Verify = True,
) -> m.Credential:
    """Rename a credential, or give it other values."""
    with database.read() as session:
        whole = service.changed(session, vault, access, credential, body)
    is_verified = check(whole, settings, ask=verify and bool(body.values))
    with database.write() as session:
        return service.update(session, vault, access, credential, body, is_verified=is_verified)


@router.patch(_ORGANIZATION + "/{credential}")
def update_shared_credential(
    access: Annotated[OrganizationAccess, organization_access(Action.SHARED_CREDENTIAL_CHANGE)],
    credential: str,
    body: m.CredentialUpdate,
    database: Db,
    vault: CurrentVault,
    settings: CurrentSettings,
    turn: Turn,
    verify: Verify = True,
) -> m.Credential:
    """Rename a shared credential, or give it other values."""
    with database.read() as session:
        whole = service.changed(session, vault, access, credential, body)
    is_verified = check(whole, settings, ask=verify and bool(body.values))
    with database.write() as session:
        return service.update(session, vault, access, credential, body, is_verified=is_verified)


@router.delete(_PROJECT + "/{credential}", status_code=204)
def delete_credential(
    access: Annotated[ProjectAccess, project_access(Action.CREDENTIAL_CHANGE)],
    credential: str,
    database: Db,
    force: bool = False,
) -> None:
    """Delete a credential; with ``force`` although something uses it."""
    with database.write() as session:
        service.delete(session, access, credential, force=force)


@router.delete(_ORGANIZATION + "/{credential}", status_code=204)
def delete_shared_credential(
    access: Annotated[OrganizationAccess, organization_access(Action.SHARED_CREDENTIAL_CHANGE)],
    credential: str,
    database: Db,
    force: bool = False,
) -> None:
    """Delete a shared credential; with ``force`` although something uses it."""
    with database.write() as session:
        service.delete(session, access, credential, force=force)
