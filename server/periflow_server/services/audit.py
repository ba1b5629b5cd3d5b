"""The audit trail, kept in the transaction of what it tells of."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from periflow_sdk.errors import NotFoundError
from periflow_server.db.audit import AuditEvent, newest_events
from periflow_server.db.base import Session
from periflow_server.db.organization import organization_named
from periflow_server.db.user import User


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str,
    organization_id: str | None = None,
    project_id: str | None = None,
) -> None:
    """Note an act. None of it may be secret.

    Args:
        actor: Who, as ``user ada`` (see ``user``), ``job 3``, ``server`` or ``admin``.
        action: What, as ``credential.use``.
        subject: With what, by name and id.
    """
    session.add(
        AuditEvent(
            actor=actor,
            action=action,
            subject=subject,
            organization_id=organization_id,
            project_id=project_id,
        )
    )


class Acting(Protocol):
    """Who acts, and where: a ``ProjectAccess`` or an ``OrganizationAccess``."""

    @property
    def user_id(self) -> str: ...
    @property
    def organization_id(self) -> str: ...
    @property
    def project_id(self) -> str | None: ...


def note(session: Session, access: Acting, action: str, subject: str) -> None:
    """Note an act of a user where he has access; see ``record``."""
    record(
        session,
        actor=user(session, access.user_id),
        action=action,
        subject=subject,
        organization_id=access.organization_id,
        project_id=access.project_id,
    )


def user(session: Session, user_id: str) -> str:
    """A user as an actor."""
    return f"user {session.get_one(User, user_id).username}"


def events(
    session: Session,
    *,
    organization: str | None,
    text: str | None,
    since: datetime | None,
    limit: int,
) -> list[AuditEvent]:
    """The last events, oldest first.

    Args:
        organization: The name of the only one to look at.
        text: What actor, action or subject has in it.

    Raises:
        NotFoundError: there is no such organization.
    """
    organization_id = None
    if organization is not None:
        found = organization_named(session, organization)
        if found is None:
            raise NotFoundError(
                f"There is no organization {organization!r}.",
                code="organization_not_found",
                hint="Run `pf-server admin list-orgs`.",
            )
        organization_id = found.id
    return newest_events(
        session, organization_id=organization_id, text=text, since=since, limit=limit
    )
