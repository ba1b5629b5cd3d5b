"""Organizations that wait for an administrator: approved or refused by him."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from periflow_sdk.errors import ConflictError, NotFoundError
from periflow_server.db import organization as db
from periflow_server.db.base import Session
from periflow_server.letter import approval_message, refusal_message
from periflow_server.services import audit
from periflow_server.services.mail import queue_mail


@dataclass(frozen=True)
class Candidate:
    """An organization as an administrator sees it."""

    name: str
    status: db.OrganizationStatus
    owners: list[str]
    created_at: datetime
    refusal: str | None


def candidates(session: Session, status: db.OrganizationStatus | None) -> list[Candidate]:
    """The organizations of the server by name, or those of one status."""
    return [_candidate(*row) for row in db.all_organizations(session, status)]


def approve(session: Session, name: str) -> Candidate:
    """Let an organization be used, one that was refused too, and tell its owners.

    Raises:
        NotFoundError: ``organization_not_found``.
        ConflictError: it can be used already (``organization_active``).
    """
    organization = _find(session, name)
    _require_waiting(organization)
    organization.status, organization.refusal = "active", None
    _note(session, organization, "approve")
    for user in db.owners_of(session, organization.id):
        queue_mail(session, approval_message(user.email, user.name, organization.name))
    return _with_owners(session, organization)


def refuse(session: Session, name: str, reason: str | None) -> Candidate:
    """Refuse an organization that waits, and tell its owners.

    Raises:
        NotFoundError: ``organization_not_found``.
        ConflictError: it is in use (``organization_active``).
    """
    organization = _find(session, name)
    _require_waiting(organization)
    organization.status, organization.refusal = "refused", reason
    _note(session, organization, "refuse")
    for user in db.owners_of(session, organization.id):
        queue_mail(session, refusal_message(user.email, user.name, organization.name, reason))
    return _with_owners(session, organization)


def _find(session: Session, name: str) -> db.Organization:
    found = db.organization_named(session, name)
    if found is None or found.deleted_at is not None:
        raise NotFoundError(
            f"There is no organization {name!r}.",
            code="organization_not_found",
            hint="Run `pf-server admin list-orgs`.",
        )
    return db.locked_organization(session, found.id)


def _require_waiting(organization: db.Organization) -> None:
    if organization.status == "active":
        raise ConflictError(
            f"Organization {organization.name} is active already.",
            code="organization_active",
            hint="Run `pf-server admin list-orgs --status staged` to see who waits.",
        )


def _note(session: Session, organization: db.Organization, what: str) -> None:
    audit.record(
        session,
        actor="admin",
        action=f"organization.{what}",
        subject=organization.name,
        organization_id=organization.id,
    )


def _with_owners(session: Session, organization: db.Organization) -> Candidate:
    owners = [user.username for user in db.owners_of(session, organization.id)]
    return _candidate(organization, owners)


def _candidate(organization: db.Organization, owners: list[str]) -> Candidate:
    return Candidate(
        organization.name,
        organization.status,
        owners,
        organization.created_at,
        organization.refusal,
    )
