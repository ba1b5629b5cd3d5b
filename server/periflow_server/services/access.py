"""Whether a caller may do something in a project."""

from __future__ import annotations

from dataclasses import dataclass

from periflow_sdk.errors import ForbiddenError, NotFoundError
from periflow_server.db.base import Session
from periflow_server.db.key import ApiKey
from periflow_server.db.project import Project, project_of_member
from periflow_server.permissions import (
    Action,
    Role,
    is_allowed,
    lesser_role,
    permission,
    project_role,
    whom_to_ask,
)
from periflow_server.services.token import AttemptIdentity


@dataclass(frozen=True)
class ProjectAccess:
    """A caller who may do what the route declared, in one project.

    ``user_id`` is empty and ``job_id`` set when a job acts with its own token.
    """

    project_id: str
    organization_id: str
    user_id: str
    role: Role
    job_id: str | None = None


def user_access(
    session: Session, project_id: str, user_id: str, action: Action, *, most: Role | None = None
) -> ProjectAccess:
    """The access of a user.

    Args:
        most: His role counts as this one at most.

    Raises:
        NotFoundError: the project does not exist for him.
        ForbiddenError: he is in it without this right.
    """
    row = project_of_member(session, project_id, user_id)
    if row is None:
        raise project_not_found()
    project, organization_role, member_role = row
    role = project_role(Role(organization_role), Role(member_role) if member_role else None)
    if role is None:
        raise project_not_found()
    if most is not None:
        role = lesser_role(role, most)
    _require(role, action)
    return ProjectAccess(project.id, project.organization_id, user_id, role)


def renew(session: Session, access: ProjectAccess, action: Action) -> None:
    """Ask once more, in a request that lasts: a role that was taken away counts at once.

    Raises:
        NotFoundError: the project does not exist for him any more.
        ForbiddenError: his role does not allow it any more.
    """
    if access.user_id:
        user_access(session, access.project_id, access.user_id, action)


def job_access(
    session: Session, project_id: str, identity: AttemptIdentity, action: Action
) -> ProjectAccess:
    """The access of a job's agent: its own project only, and only what a job needs."""
    project = session.get(Project, project_id)
    if project is None or identity.project_id != project_id:
        raise project_not_found()
    _require(Role.JOB, action)
    return ProjectAccess(project.id, project.organization_id, "", Role.JOB, identity.job_id)


def key_access(session: Session, project_id: str, key: ApiKey, action: Action) -> ProjectAccess:
    """The access of an API key: its own project only, its role at most, and never more than its
    owner has now.
    """
    if key.project_id != project_id:
        raise project_not_found()
    return user_access(session, project_id, key.user_id, action, most=Role(key.role))


def login_needed(key_name: str) -> ForbiddenError:
    """The answer to an API key where only people may be."""
    return ForbiddenError(
        f"This cannot be done with an API key ({key_name}).",
        code="login_needed",
        hint="Unset PERIFLOW_API_KEY and log in with `pf login`.",
    )


def require_own(access: ProjectAccess, owner_id: str, anyones: Action) -> None:
    """Let through who made a thing, and those who may do this with the things of anybody.

    Args:
        owner_id: The user who made it.
        anyones: The action that is needed for what others made.

    Raises:
        ForbiddenError: somebody else made it (``not_yours``).
    """
    if access.user_id and access.user_id == owner_id:
        return
    if not is_allowed(access.role, anyones):
        raise ForbiddenError(
            f"Somebody else made this, and your role here ({access.role}) does not allow you to "
            f"{permission(anyones).words}.",
            code="not_yours",
            hint=f"Ask who made it, or {whom_to_ask(anyones)}.",
            data={"role": str(access.role), "action": str(anyones)},
        )


def project_not_found() -> NotFoundError:
    """The answer to everybody outside."""
    return NotFoundError(
        "There is no such project, or you are not in it (any more).",
        code="project_not_found",
        hint="`pf org list` and `pf project list` show where you are; `pf project switch NAME`.",
    )


def _require(role: Role, action: Action) -> None:
    if not is_allowed(role, action):
        raise ForbiddenError(
            f"Your role here ({role}) does not allow you to {permission(action).words}.",
            hint=f"Ask {whom_to_ask(action)}.",
            data={"role": str(role), "action": str(action)},
        )
