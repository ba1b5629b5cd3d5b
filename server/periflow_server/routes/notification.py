"""Notifications of a project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentSettings,
    Cursor,
    Db,
    Limit,
    Once,
    Page,
    Throttle,
    project_access,
)
from periflow_server.routes.outgoing import Turn
from periflow_server.services import notification as service
from periflow_server.services.access import ProjectAccess
from periflow_server.services.throttle import Limited
from periflow_server.services.vault import Vault

router = APIRouter(prefix=PREFIX + "/projects/{project}/notifications", tags=["notifications"])

Reader = Annotated[ProjectAccess, project_access(Action.NOTIFICATION_READ)]
Manager = Annotated[ProjectAccess, project_access(Action.NOTIFICATION_MANAGE)]


@router.post("", status_code=201, response_model=m.Notification)
def create_notification(
    access: Manager,
    body: Annotated[m.NotificationCreate, Body()],
    once: Once,
    settings: CurrentSettings,
    turn: Turn,
) -> Response:
    """Add a rule; a webhook's secret is asked for afterwards."""
    if isinstance(body, m.WebhookNotificationCreate):
        from periflow_server.outbound import check_url, refuse_private

        check_url(body.url)
        if not settings.private_addresses:
            refuse_private(body.url)
    vault = Vault.of(settings)
    return once(access.user_id, lambda session: service.create(session, vault, access, body))


@router.get("")
def list_notifications(
    access: Reader, database: Db, cursor: Cursor = None, limit: Limit = 100
) -> Page[m.Notification]:
    """The project's rules."""
    with database.read() as session:
        items, following = service.list_rules(session, access.project_id, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.get("/{notification}")
def notification(access: Reader, notification: str, database: Db) -> m.Notification:
    """One rule, by its id or the unique start of it."""
    with database.read() as session:
        return service.view(session, access.project_id, notification)


@router.delete("/{notification}", status_code=204)
def delete_notification(access: Manager, notification: str, database: Db) -> None:
    """Delete a rule, with the messages that it has waiting."""
    with database.write() as session:
        service.remove(session, access.project_id, notification)


@router.post("/{notification}/secret")
def renew_secret(
    access: Manager, notification: str, database: Db, settings: CurrentSettings
) -> m.NotificationSecret:
    """A new secret for a webhook, shown this once; the one before is gone."""
    # Not once per key: the answers that are kept for repeats are not sealed.
    with database.write() as session:
        vault = Vault.of(settings)
        return service.renew_secret(session, vault, access.project_id, notification)


@router.post("/{notification}/test", status_code=201, response_model=m.Delivery)
def test_notification(
    access: Manager, notification: str, once: Once, throttle: Throttle
) -> Response:
    """Send a test message; the list of deliveries says what becomes of it."""
    throttle(Limited.NOTIFY, access.project_id)
    return once(access.user_id, lambda session: service.test(session, access, notification))


@router.get("/{notification}/deliveries")
def list_deliveries(
    access: Reader, notification: str, database: Db, cursor: Cursor = None, limit: Limit = 100
) -> Page[m.Delivery]:
    """The messages of a rule, newest first."""
    with database.read() as session:
        items, following = service.deliveries(
            session, access.project_id, notification, cursor, limit
        )
    return Page(items=items, next_cursor=following)
