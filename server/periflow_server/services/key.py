"""API keys of a project: for machines, with a role and an end. Shown once, kept as a hash."""

from __future__ import annotations

from datetime import timedelta

from periflow_sdk.api import models as m
from periflow_sdk.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from periflow_server.db import key as db
from periflow_server.db.base import Session, utcnow
from periflow_server.db.organization import Organization
from periflow_server.db.project import Project
from periflow_server.db.user import User
from periflow_server.permissions import Action, Role, is_allowed, lesser_role, role_named
from periflow_server.services import audit, token
from periflow_server.services.access import ProjectAccess, require_own

_NOTED_EVERY = timedelta(minutes=10)


def create(session: Session, access: ProjectAccess, body: m.ApiKeyCreate) -> m.ApiKeySecret:
    """Make a key; its text is in this answer and nowhere else.

    Raises:
        InvalidRequestError: no such role (``unknown_role``), or it ends in the past
            (``key_expired``).
        ForbiddenError: the role is more than the caller's own (``role_too_high``).
        ConflictError: he has a key of this name here (``key_exists``).
    """
    role = role_named(body.role, "project")
    if lesser_role(role, access.role) is not role:
        raise ForbiddenError(
            f"A key of yours can be no more than you are: {access.role}, not {role}.",
            code="role_too_high",
            hint=f"Run `pf key create {body.name} --role {access.role}`.",
        )
    if body.expires_at is not None and body.expires_at <= utcnow():
        raise InvalidRequestError(
            "The key would have expired already.", code="key_expired", hint="Give a later time."
        )
    if any(key.name == body.name for key, _ in _own(session, access, body.name)):
        raise ConflictError(
            f"You have an API key {body.name} in this project already.",
            code="key_exists",
            hint=f"Choose another name, or run `pf key delete {body.name}` first.",
        )
    text = token.new_api_key()
    key = db.ApiKey(
        project_id=access.project_id,
        user_id=access.user_id,
        name=body.name,
        role=role.value,
        token_hash=token.digest(text),
        expires_at=body.expires_at,
    )
    session.add(key)
    session.flush()
    _note(session, access, "key.create", key)
    user = session.get_one(User, access.user_id)
    return m.ApiKeySecret(**_wire(key, user.username).model_dump(), key=text)


def keys(
    session: Session, access: ProjectAccess, cursor: str | None, limit: int
) -> tuple[list[m.ApiKey], str | None]:
    """The caller's keys in the project, and for who may manage all of them everybody's."""
    sees_all = is_allowed(access.role, Action.KEY_MANAGE_ANY)
    owner = None if sees_all else access.user_id
    rows = db.keys_of(session, access.project_id, owner, after=cursor, limit=limit + 1)
    items = [_wire(key, username) for key, username in rows[:limit]]
    return items, items[-1].id if len(rows) > limit else None


def delete(session: Session, access: ProjectAccess, reference: str) -> None:
    """End a key, by name or id (or the beginning of its id); his own goes before others'.

    Raises:
        NotFoundError: no such key (``key_not_found``).
        ConflictError: several are called so (``ambiguous``).
        ForbiddenError: it is somebody else's (``not_yours``).
    """
    found = _own(session, access, reference) or db.keys_called(
        session, access.project_id, reference
    )
    exact = [row for row in found if reference in (row[0].id, row[0].name)]
    found = exact or found
    if not found:
        raise NotFoundError(
            f"There is no API key {reference!r} in this project.",
            code="key_not_found",
            hint="Run `pf key list`.",
        )
    if len(found) > 1:
        raise ConflictError(
            f"Several API keys are called {reference!r}.",
            code="ambiguous",
            hint="Give the id: `pf key list` shows it.",
            data={"ids": [key.id for key, _ in found]},
        )
    key = found[0][0]
    require_own(access, key.user_id, Action.KEY_MANAGE_ANY)
    _note(session, access, "key.delete", key)
    session.delete(key)


def current(session: Session, key: db.ApiKey, role: Role) -> m.CurrentApiKey:
    """What a key can be used for, told to who has it.

    Args:
        role: What it may do now.
    """
    project = session.get_one(Project, key.project_id)
    organization = session.get_one(Organization, project.organization_id)
    user = session.get_one(User, key.user_id)
    wire = _wire(key, user.username).model_copy(update={"role": role.value})
    return m.CurrentApiKey(
        **wire.model_dump(),
        project_name=project.name,
        organization_id=organization.id,
        organization_name=organization.name,
    )


def is_use_to_note(key: db.ApiKey) -> bool:
    """Whether this use is to be kept: once in a while is enough, and costs no write each time."""
    return key.used_at is None or utcnow() - key.used_at > _NOTED_EVERY


def note_use(session: Session, key: db.ApiKey) -> None:
    """Keep that a key is used now."""
    db.note_use(session, key.id, utcnow())


def _own(session: Session, access: ProjectAccess, reference: str) -> list[db.KeyRow]:
    rows = db.keys_called(session, access.project_id, reference)
    return [row for row in rows if row[0].user_id == access.user_id]


def _note(session: Session, access: ProjectAccess, action: str, key: db.ApiKey) -> None:
    audit.record(
        session,
        actor=audit.user(session, access.user_id),
        action=action,
        subject=f"API key {key.name} ({key.id})",
        organization_id=access.organization_id,
        project_id=access.project_id,
    )


def _wire(key: db.ApiKey, username: str) -> m.ApiKey:
    return m.ApiKey(
        id=key.id,
        name=key.name,
        role=key.role,
        project_id=key.project_id,
        created_by=username,
        created_at=key.created_at,
        expires_at=key.expires_at,
        used_at=key.used_at,
    )
