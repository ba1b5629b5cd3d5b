"""Who may do what: the roles, the actions, and the one table that joins them.

A route declares its action (``project_access(Action.JOB_RUN)``) and never looks at roles itself.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Roles in an organization (owner, member), in a project (the others), and that of a job."""

    OWNER = "owner"
    MEMBER = "member"
    ADMIN = "admin"
    MAINTAINER = "maintainer"
    DEVELOPER = "developer"
    GUEST = "guest"
    JOB = "job"


class Action(StrEnum):
    """Everything a route can ask for."""

    ORGANIZATION_READ = "organization.read"
    PROJECT_CREATE = "project.create"
    PROJECT_READ = "project.read"
    PROJECT_DELETE = "project.delete"
    MEMBER_MANAGE = "member.manage"
    SNAPSHOT_READ = "snapshot.read"
    SNAPSHOT_WRITE = "snapshot.write"
    DATASET_READ = "dataset.read"
    DATASET_WRITE = "dataset.write"
    DATASET_DELETE = "dataset.delete"
    JOB_READ = "job.read"
    JOB_RUN = "job.run"
    JOB_STOP = "job.stop"
    CHECKPOINT_READ = "checkpoint.read"
    VM_READ = "vm.read"


_GUEST = frozenset(
    {
        Action.PROJECT_READ,
        Action.SNAPSHOT_READ,
        Action.DATASET_READ,
        Action.JOB_READ,
        Action.CHECKPOINT_READ,
        Action.VM_READ,
    }
)
_DEVELOPER = _GUEST | {
    Action.SNAPSHOT_WRITE,
    Action.DATASET_WRITE,
    Action.JOB_RUN,
    Action.JOB_STOP,
}
_MAINTAINER = _DEVELOPER | {Action.DATASET_DELETE}
_ADMIN = _MAINTAINER | {Action.MEMBER_MANAGE, Action.PROJECT_DELETE}
_MEMBER = frozenset({Action.ORGANIZATION_READ})

_ALLOWED: dict[Role, frozenset[Action]] = {
    Role.OWNER: _ADMIN | _MEMBER | {Action.PROJECT_CREATE},
    Role.MEMBER: _MEMBER,
    Role.ADMIN: _ADMIN,
    Role.MAINTAINER: _MAINTAINER,
    Role.DEVELOPER: _DEVELOPER,
    Role.GUEST: _GUEST,
    # A job's token: only what its agent needs inside its own project.
    Role.JOB: frozenset(
        {
            Action.SNAPSHOT_READ,
            Action.SNAPSHOT_WRITE,
            Action.DATASET_READ,
            Action.CHECKPOINT_READ,
        }
    ),
}


def is_allowed(role: Role, action: Action) -> bool:
    """Whether the role may do the action."""
    return action in _ALLOWED[role]


def project_role(organization_role: Role | None, role: Role | None) -> Role | None:
    """The role that counts in a project: owners of the organization are admins of its projects.

    Returns:
        None for who is outside.
    """
    return Role.ADMIN if organization_role is Role.OWNER else role
