"""Who may do what: the roles, the actions, and the one table that joins them.

A route declares its action (``project_access(Action.JOB_RUN)``) and never looks at roles itself.
Where a role may do something with what is its own only, the route declares the smaller action and
its service asks ``access.require_own`` for the larger one (``..._ANY``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from periflow_sdk.errors import InvalidRequestError


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
    ORGANIZATION_LEAVE = "organization.leave"
    ORGANIZATION_DELETE = "organization.delete"
    INVITATION_MANAGE = "invitation.manage"
    MEMBERSHIP_MANAGE = "membership.manage"
    USAGE_READ = "usage.read"
    PROJECT_CREATE = "project.create"
    PROJECT_READ = "project.read"
    PROJECT_DELETE = "project.delete"
    QUOTA_CHANGE = "quota.change"
    MEMBER_MANAGE = "member.manage"
    SNAPSHOT_READ = "snapshot.read"
    SNAPSHOT_WRITE = "snapshot.write"
    DATASET_READ = "dataset.read"
    DATASET_WRITE = "dataset.write"
    DATASET_CHANGE = "dataset.change"
    DATASET_CHANGE_ANY = "dataset.change-any"
    KEY_MANAGE = "key.manage"
    KEY_MANAGE_ANY = "key.manage-any"
    CREDENTIAL_READ = "credential.read"
    CREDENTIAL_CREATE = "credential.create"
    CREDENTIAL_CHANGE = "credential.change"
    CREDENTIAL_CHANGE_ANY = "credential.change-any"
    SHARED_CREDENTIAL_READ = "shared-credential.read"
    SHARED_CREDENTIAL_CREATE = "shared-credential.create"
    SHARED_CREDENTIAL_CHANGE = "shared-credential.change"
    SHARED_CREDENTIAL_CHANGE_ANY = "shared-credential.change-any"
    JOB_READ = "job.read"
    JOB_RUN = "job.run"
    JOB_STOP = "job.stop"
    JOB_STOP_ANY = "job.stop-any"
    JOB_DELETE = "job.delete"
    JOB_DELETE_ANY = "job.delete-any"
    CHECKPOINT_READ = "checkpoint.read"
    CHECKPOINT_DELETE = "checkpoint.delete"
    CHECKPOINT_DELETE_ANY = "checkpoint.delete-any"
    VM_READ = "vm.read"
    NOTIFICATION_READ = "notification.read"
    NOTIFICATION_MANAGE = "notification.manage"


ORGANIZATION_ROLES = (Role.MEMBER, Role.OWNER)
"""The roles in an organization; each may do all that those before it may."""
PROJECT_ROLES = (Role.GUEST, Role.DEVELOPER, Role.MAINTAINER, Role.ADMIN)
"""The roles in a project; each may do all that those before it may. An owner may do more still."""

Scope = Literal["organization", "project"]


@dataclass(frozen=True)
class Permission:
    """One line of the table: the least role that may do an action, and the action in words.

    ``jobs``: the agent of a job may do it too, in the project of its job.
    """

    action: Action
    least: Role
    words: str
    scope: Scope = "project"
    jobs: bool = False

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of people who may do it."""
        in_projects = (*PROJECT_ROLES, Role.OWNER)
        ladder = ORGANIZATION_ROLES if self.scope == "organization" else in_projects
        return ladder[ladder.index(self.least) :]


# fmt: off
_IN_ORGANIZATIONS = tuple(
    Permission(action, least, words, "organization")
    for action, least, words in (
        (Action.ORGANIZATION_READ, Role.MEMBER, "use the organization, see its members"),
        (Action.ORGANIZATION_LEAVE, Role.MEMBER, "leave the organization"),
        (Action.SHARED_CREDENTIAL_READ, Role.MEMBER, "see shared credentials, not their values"),
        (Action.SHARED_CREDENTIAL_CREATE, Role.MEMBER, "share credentials with the organization"),
        (Action.SHARED_CREDENTIAL_CHANGE, Role.MEMBER, "change and delete what one shared"),
        (Action.SHARED_CREDENTIAL_CHANGE_ANY, Role.OWNER, "change and delete what others shared"),
        (Action.INVITATION_MANAGE, Role.OWNER, "invite people"),
        (Action.MEMBERSHIP_MANAGE, Role.OWNER, "give roles in the organization, remove people"),
        (Action.PROJECT_CREATE, Role.OWNER, "create projects"),
        (Action.USAGE_READ, Role.OWNER, "see who used how many device hours"),
        (Action.ORGANIZATION_DELETE, Role.OWNER, "delete the organization"),
    )
)
_IN_PROJECTS = (
    Permission(Action.PROJECT_READ, Role.GUEST, "see the project and its members"),
    Permission(Action.JOB_READ, Role.GUEST, "see jobs, their logs and metrics"),
    Permission(Action.DATASET_READ, Role.GUEST, "see datasets", jobs=True),
    Permission(Action.CHECKPOINT_READ, Role.GUEST, "see checkpoints", jobs=True),
    Permission(Action.SNAPSHOT_READ, Role.GUEST, "download files", jobs=True),
    Permission(Action.VM_READ, Role.GUEST, "see VM types"),
    Permission(Action.NOTIFICATION_READ, Role.GUEST, "see who is notified of what"),
    Permission(Action.CREDENTIAL_READ, Role.GUEST, "see credentials, not their values"),
    Permission(Action.KEY_MANAGE, Role.GUEST, "make API keys of one's own, of one's role at most"),
    Permission(Action.JOB_RUN, Role.DEVELOPER, "run jobs"),
    Permission(Action.JOB_STOP, Role.DEVELOPER, "stop one's own jobs"),
    Permission(Action.JOB_DELETE, Role.DEVELOPER, "delete one's own jobs"),
    Permission(Action.CHECKPOINT_DELETE, Role.DEVELOPER, "delete checkpoints of one's own jobs"),
    Permission(Action.SNAPSHOT_WRITE, Role.DEVELOPER, "upload files", jobs=True),
    Permission(Action.DATASET_WRITE, Role.DEVELOPER, "create datasets"),
    Permission(Action.DATASET_CHANGE, Role.DEVELOPER, "change and delete one's own datasets"),
    Permission(Action.CREDENTIAL_CREATE, Role.DEVELOPER, "create credentials"),
    Permission(
        Action.CREDENTIAL_CHANGE, Role.DEVELOPER, "change and delete one's own credentials"
    ),
    Permission(Action.JOB_STOP_ANY, Role.MAINTAINER, "stop everybody's jobs"),
    Permission(Action.JOB_DELETE_ANY, Role.MAINTAINER, "delete everybody's jobs"),
    Permission(
        Action.CHECKPOINT_DELETE_ANY, Role.MAINTAINER, "delete checkpoints of everybody's jobs"
    ),
    Permission(
        Action.DATASET_CHANGE_ANY, Role.MAINTAINER, "change and delete everybody's datasets"
    ),
    Permission(
        Action.CREDENTIAL_CHANGE_ANY,
        Role.MAINTAINER,
        "change and delete everybody's credentials of the project",
    ),
    Permission(Action.NOTIFICATION_MANAGE, Role.MAINTAINER, "add, test and delete notifications"),
    Permission(Action.KEY_MANAGE_ANY, Role.ADMIN, "see and delete everybody's API keys"),
    Permission(Action.MEMBER_MANAGE, Role.ADMIN, "add and remove people, give roles"),
    Permission(Action.QUOTA_CHANGE, Role.OWNER, "limit how much the project stores"),
    Permission(Action.PROJECT_DELETE, Role.OWNER, "delete the project"),
)
# fmt: on
PERMISSIONS = (*_IN_ORGANIZATIONS, *_IN_PROJECTS)
"""The table."""

_ALLOWED: dict[Role, frozenset[Action]] = {
    role: frozenset(each.action for each in PERMISSIONS if role in each.roles)
    for role in Role
    if role is not Role.JOB
}
_ALLOWED[Role.JOB] = frozenset(each.action for each in PERMISSIONS if each.jobs)


def is_allowed(role: Role, action: Action) -> bool:
    """Whether the role may do the action."""
    return action in _ALLOWED[role]


def permission(action: Action) -> Permission:
    """The action's line of the table."""
    return next(each for each in PERMISSIONS if each.action is action)


def whom_to_ask(action: Action) -> str:
    """Those who may do the action, as a hint names them."""
    line = permission(action)
    article = "an" if line.least in (Role.ADMIN, Role.OWNER) else "a"
    place = "organization" if line.least in ORGANIZATION_ROLES else "project"
    return f"{article} {line.least} of the {place}"


def project_role(organization_role: Role | None, role: Role | None) -> Role | None:
    """The role that counts in a project: owners of the organization may do all that admins may.

    Returns:
        None for who is outside.
    """
    return Role.OWNER if organization_role is Role.OWNER else role


def lesser_role(one: Role, other: Role) -> Role:
    """Of two roles in a project the one that may do less."""
    ladder = (*PROJECT_ROLES, Role.OWNER)
    return min(one, other, key=ladder.index)


_ALIASES = {"maintain": "maintainer", "develop": "developer"}


def role_named(text: str, scope: Scope) -> Role:
    """A role as people write it: in any case, ``maintain`` and ``develop`` too.

    Raises:
        InvalidRequestError: there is no such role there (``unknown_role``).
    """
    roles = ORGANIZATION_ROLES if scope == "organization" else PROJECT_ROLES
    word = text.strip().lower()
    word = _ALIASES.get(word, word)
    if word in roles:
        return Role(word)
    names = [str(role) for role in reversed(roles)]
    raise InvalidRequestError(
        f"{text.strip()!r} is no role in {'an' if scope == 'organization' else 'a'} {scope}.",
        code="unknown_role",
        hint=f"The roles are {', '.join(names[:-1])} and {names[-1]}.",
        data={"roles": names},
    )
