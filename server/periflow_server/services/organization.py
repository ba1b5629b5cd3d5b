"""Organizations: made, listed, deleted, and who may do what in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, ForbiddenError, NotFoundError
from periflow_server.db import organization as db
from periflow_server.db.base import Session, utcnow
from periflow_server.db.deletion import hide_organization, unfinished_jobs
from periflow_server.db.key import ApiKey
from periflow_server.db.project import Project
from periflow_server.permissions import Action, Role, is_allowed, permission, whom_to_ask
from periflow_server.services import audit
from periflow_server.settings import Settings


@dataclass(frozen=True)
class OrganizationAccess:
    """A caller who may do what the route declared, in one organization.

    ``project_id`` is set for an API key: it sees this project only.
    """

    organization_id: str
    user_id: str
    role: Role
    project_id: str | None = None


_UNAPPROVED = frozenset(
    {Action.ORGANIZATION_READ, Action.ORGANIZATION_LEAVE, Action.ORGANIZATION_DELETE}
)
"""What can be done in an organization that no administrator has approved."""


def member_access(
    session: Session, organization_id: str, user_id: str, action: Action
) -> OrganizationAccess:
    """The access of a member.

    Raises:
        NotFoundError: the organization does not exist for him.
        ForbiddenError: he is in it without this right, or it cannot be used (yet):
            ``organization_staged``, ``organization_refused``.
    """
    row = db.organization_of_member(session, organization_id, user_id)
    if row is None:
        raise NotFoundError(
            "There is no such organization.",
            code="organization_not_found",
            hint="Run `pf org list`.",
        )
    organization, role = row[0], Role(row[1])
    if not is_allowed(role, action):
        raise ForbiddenError(
            f"Your role in the organization ({role}) does not allow you to "
            f"{permission(action).words}.",
            hint=f"Ask {whom_to_ask(action)}.",
            data={"role": str(role), "action": str(action)},
        )
    if action not in _UNAPPROVED:
        _require_approved(organization)
    return OrganizationAccess(organization_id, user_id, role)


def key_member_access(
    session: Session, organization_id: str, key: ApiKey, action: Action
) -> OrganizationAccess:
    """The access of an API key, which belongs to one project, as a member.

    Raises:
        NotFoundError: another organization than that of its project.
    """
    project = session.get(Project, key.project_id)
    is_here = project is not None and project.organization_id == organization_id
    access = member_access(session, organization_id if is_here else "", key.user_id, action)
    return replace(access, role=Role.MEMBER, project_id=key.project_id)


def _require_approved(organization: db.Organization) -> None:
    name = organization.name
    if organization.status == "staged":
        raise ForbiddenError(
            f"Organization {name} is staged: it waits for the approval of an administrator.",
            code="organization_staged",
            hint=f"An administrator approves it with `pf-server admin approve-org {name}`.",
        )
    if organization.status == "refused":
        why = f": {organization.refusal.rstrip('.')}" if organization.refusal else ""
        raise ForbiddenError(
            f"Organization {name} was refused by an administrator{why}.",
            code="organization_refused",
            hint=f"Ask the administrator, or run `pf org delete {name}`.",
        )


def create_organization(
    session: Session, body: m.OrganizationCreate, user_id: str, settings: Settings
) -> m.Organization:
    """Make an organization with the caller as its owner.

    Raises:
        ConflictError: the name is taken, in whichever case (``organization_exists``).
    """
    taken = db.organization_like(session, body.name)
    if taken is not None:
        raise ConflictError(
            f"An organization named {taken.name} exists already.",
            code="organization_exists",
            hint="Choose another name.",
        )
    status: db.OrganizationStatus = "active" if settings.org_approval == "auto" else "staged"
    organization = db.Organization(name=body.name, status=status)
    session.add(organization)
    session.flush()
    session.add(db.Membership(organization_id=organization.id, user_id=user_id, role="owner"))
    audit.record(
        session,
        actor=audit.user(session, user_id),
        action="organization.create",
        subject=organization.name,
        organization_id=organization.id,
    )
    return wire(organization, "owner")


def delete_organization(session: Session, access: OrganizationAccess) -> None:
    """Delete an organization with all its projects; what they had goes in the background.

    Raises:
        ConflictError: jobs of it have not ended (``organization_busy``).
    """
    organization = db.locked_organization(session, access.organization_id)
    busy = unfinished_jobs(session, organization_id=organization.id)
    if busy:
        project, number = busy[0]
        raise ConflictError(
            f"Organization {organization.name} has {counted(len(busy), 'job')} that "
            "did not end yet.",
            code="organization_busy",
            hint=f"Wait for them, or stop them: in project {project}, `pf job stop {number}`.",
        )
    audit.note(session, access, "organization.delete", organization.name)
    hide_organization(session, organization, utcnow())


def organizations(
    session: Session, user_id: str, cursor: str | None, limit: int, *, key: ApiKey | None = None
) -> tuple[list[m.Organization], str | None]:
    """The user's organizations by name, and the cursor of what follows.

    Args:
        key: Asks in his place; it sees the one of its project, as a member.
    """
    if key is not None:
        project = session.get_one(Project, key.project_id)
        row = db.organization_of_member(session, project.organization_id, user_id)
        return ([wire(row[0], "member")] if row and not cursor else []), None
    rows = db.organizations_of(session, user_id, after=cursor, limit=limit + 1)
    items = [wire(organization, role) for organization, role in rows[:limit]]
    return items, items[-1].name if len(rows) > limit else None


def counted(count: int, noun: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def wire(organization: db.Organization, role: db.OrganizationRole) -> m.Organization:
    return m.Organization(
        id=organization.id,
        name=organization.name,
        status=organization.status,
        role=role,
        created_at=organization.created_at,
        refusal=organization.refusal,
    )
