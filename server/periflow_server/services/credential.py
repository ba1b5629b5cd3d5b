"""Credentials: stored sealed, shown without their values, changed and deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic import SecretStr, ValidationError

from periflow_sdk.api import models as m
from periflow_sdk.api.models.credential import service_account
from periflow_sdk.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from periflow_server.db import credential as db
from periflow_server.db.base import Session, lock, new_id, utcnow
from periflow_server.db.dataset import linked_with
from periflow_server.permissions import Action, is_allowed
from periflow_server.services import audit, credential_use
from periflow_server.services.access import ProjectAccess, require_own
from periflow_server.services.organization import OrganizationAccess
from periflow_server.services.vault import Vault

Access = ProjectAccess | OrganizationAccess
"""Credentials of a project, with the shared ones in sight, or the shared ones themselves."""

_STARS = "********"
_PREFIX = re.compile(r"[0-9a-f-]{4,36}")
_SHOWN_END = 4


def create(
    session: Session,
    vault: Vault,
    access: Access,
    body: m.AnyCredentialCreate,
    *,
    is_verified: bool,
) -> m.Credential:
    """Store a credential.

    Args:
        is_verified: The service it is for has just taken it.

    Raises:
        ConflictError: its scope has one of this name (``credential_exists``).
    """
    project_id = _project_of(access)
    scope_id = project_id or access.organization_id
    _refuse_taken(session, scope_id, body.name)
    id = new_id()
    credential = db.Credential(
        id=id,
        organization_id=access.organization_id,
        project_id=project_id,
        scope_id=scope_id,
        name=body.name,
        type=body.type,
        details=_shown(body),
        sealed=_seal(vault, id, body),
        created_by=access.user_id,
        verified_at=utcnow() if is_verified else None,
    )
    session.add(credential)
    session.flush()
    _note(session, access, "create", credential)
    return _wire(find(session, access, id))


def credentials(
    session: Session,
    access: Access,
    type: m.CredentialType | None,
    cursor: str | None,
    limit: int,
) -> tuple[list[m.Credential], str | None]:
    """Those in sight by name, and the cursor of what follows."""
    name, _, id = (cursor or "").partition("/")
    rows = db.credentials_of(
        session,
        access.organization_id,
        _project_of(access),
        type=type,
        after=(name, id) if cursor else None,
        limit=limit + 1,
    )
    items = [_wire(row) for row in rows[:limit]]
    return items, f"{items[-1].name}/{items[-1].id}" if len(rows) > limit else None


def detail(session: Session, access: Access, reference: str) -> m.Credential:
    """One credential with what uses it; what the caller may not see of that has no name."""
    row = find(session, access, reference)
    uses = credential_use.uses_of(session, row[0], project_id=_project_of(access))
    return _wire(row).model_copy(update={"used_by": uses})


def find(session: Session, access: Access, reference: str) -> db.CredentialRow:
    """The credential of an id, a name, or the unique start of an id; the first that fits.

    Raises:
        NotFoundError: ``credential_not_found``.
        ConflictError: several start so (``ambiguous``).
    """
    project_id = _project_of(access)
    return find_in(session, access.organization_id, project_id, reference)


def find_in(
    session: Session, organization_id: str, project_id: str | None, reference: str
) -> db.CredentialRow:
    """See ``find``."""
    row = db.credential_named(session, organization_id, project_id, reference)
    if row is not None:
        return row
    found = []
    if _PREFIX.fullmatch(reference):
        found = db.credentials_with_prefix(session, organization_id, project_id, reference)
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFoundError(
            f"There is no credential {reference!r} here.",
            code="credential_not_found",
            hint="Run `pf credential list`.",
        )
    names = [credential.name for credential, _ in found]
    raise ConflictError(
        f"Several credentials have ids that start with {reference}: {', '.join(names)}.",
        code="ambiguous",
        hint="Give more of the id, or the name.",
        data={"candidates": names},
    )


def changed(
    session: Session, vault: Vault, access: Access, reference: str, body: m.CredentialUpdate
) -> m.AnyCredentialCreate:
    """What a credential would be with a change; nothing is stored.

    Raises:
        ForbiddenError: somebody else made it (``not_yours``), or it has to be changed where it
            is shared (``shared_credential``).
        InvalidRequestError: the fields do not fit its type.
    """
    credential, _ = find(session, access, reference)
    _require_own(access, credential)
    return _merged(vault, credential, body)


def update(
    session: Session,
    vault: Vault,
    access: Access,
    reference: str,
    body: m.CredentialUpdate,
    *,
    is_verified: bool,
) -> m.Credential:
    """Give a credential another name or other values. Its id stays, and jobs that name it too.

    Raises:
        as ``changed``; ConflictError: the name is taken.
    """
    credential, username = find(session, access, reference)
    _require_own(access, credential)
    credential = lock(session, credential)
    whole = _merged(vault, credential, body)
    if whole.name != credential.name:
        _refuse_taken(session, credential.scope_id, whole.name)
    credential.name = whole.name
    credential.updated_at = utcnow()
    if body.values:
        credential.details = _shown(whole)
        credential.sealed = _seal(vault, credential.id, whole)
        credential.verified_at = utcnow() if is_verified else None
    session.flush()
    _note(session, access, "update", credential)
    return _wire((credential, username))


def delete(session: Session, access: Access, reference: str, *, force: bool) -> None:
    """Delete a credential.

    Args:
        force: Although something uses it, which then fails; a dataset is not active any more.

    Raises:
        ConflictError: something uses it (``credential_in_use``).
    """
    row = find(session, access, reference)
    credential = row[0]
    _require_own(access, credential)
    uses = credential_use.uses_of(session, credential, project_id=_project_of(access))
    if uses and not force:
        raise ConflictError(
            f"{credential.name} is used by {credential_use.in_words(uses)}.",
            code="credential_in_use",
            hint=f"Run `pf credential view {credential.name}` to see what would fail.",
            data={"used_by": [use.model_dump() for use in uses]},
        )
    _note(session, access, "delete", credential)
    for dataset, _ in linked_with(session, credential.id):
        dataset.active = False
    session.delete(credential)


def _require_own(access: Access, credential: db.Credential) -> None:
    if isinstance(access, ProjectAccess):
        if credential.project_id is None:
            raise ForbiddenError(
                f"{credential.name} is shared with the organization, and is changed there.",
                code="shared_credential",
                hint="Add -g to the command.",
            )
        require_own(access, credential.created_by, Action.CREDENTIAL_CHANGE_ANY)
        return
    anyones = Action.SHARED_CREDENTIAL_CHANGE_ANY
    if access.user_id != credential.created_by and not is_allowed(access.role, anyones):
        raise ForbiddenError(
            f"Somebody else shared {credential.name}, and you are no owner of the organization.",
            code="not_yours",
            hint="Ask who made it, or an owner of the organization.",
            data={"role": str(access.role), "action": str(anyones)},
        )


def _refuse_taken(session: Session, scope_id: str, name: str) -> None:
    if db.is_name_taken(session, scope_id, name):
        raise ConflictError(
            f"A credential named {name} exists already.",
            code="credential_exists",
            hint=f"Choose another name, or run `pf credential update {name}`.",
        )


def _merged(
    vault: Vault, credential: db.Credential, body: m.CredentialUpdate
) -> m.AnyCredentialCreate:
    model = m.CREDENTIAL_BODIES[credential.type]
    known = set(model.model_fields) - {"type", "name"}
    if unknown := sorted(set(body.values) - known):
        raise InvalidRequestError(
            f"A credential of type {credential.type} has no {', '.join(unknown)}.",
            code="credential_field",
            hint=f"It has {', '.join(sorted(known))}.",
        )
    given = {name: value.get_secret_value() for name, value in body.values.items()}
    # Of slack's two fields a new one takes the place of the other.
    kept = {} if credential.type == "slack" and given else values_of(vault, credential)
    try:
        return model.model_validate({"name": body.name or credential.name, **kept, **given})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = str(first["loc"][-1]) if first["loc"] else "values"
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidRequestError(f"{field}: {reason}.", data={"field": field}) from None


def values_of(vault: Vault, credential: db.Credential) -> dict[str, str]:
    """The fields of a credential as they are. Whoever asks notes the use.

    Raises:
        VaultError: they cannot be opened.
    """
    values: dict[str, str] = json.loads(vault.open(credential.id, credential.sealed))
    return values


def subject(credential: db.Credential) -> str:
    """A credential as the subject of an audit event."""
    return f"credential {credential.name} ({credential.id})"


def _seal(vault: Vault, id: str, body: m.AnyCredentialCreate) -> str:
    values = body.model_dump(mode="json", exclude={"type", "name"}, exclude_none=True)
    return vault.seal(id, json.dumps(values).encode())


def _shown(body: m.AnyCredentialCreate) -> dict[str, str]:
    """What people may see: secret fields as stars, of the id of a key the end."""
    shown = {}
    fields: Mapping[str, object] = dict(body)
    for name, value in fields.items():
        if name in ("type", "name") or value is None:
            continue
        shown[name] = _STARS if isinstance(value, SecretStr) else str(value)
    if isinstance(body, m.S3CredentialCreate):
        key = body.aws_access_key_id.get_secret_value()
        if len(key) >= 4 * _SHOWN_END:
            shown["aws_access_key_id"] = f"{_STARS}{key[-_SHOWN_END:]}"
    if isinstance(body, m.GcsCredentialCreate):
        document = service_account(body.service_account_key.get_secret_value())
        shown["client_email"] = str(document["client_email"])
        shown["project_id"] = str(document["project_id"])
    return shown


def _project_of(access: Access) -> str | None:
    return access.project_id if isinstance(access, ProjectAccess) else None


def _note(session: Session, access: Access, act: str, credential: db.Credential) -> None:
    audit.record(
        session,
        actor=audit.user(session, access.user_id),
        action=f"credential.{act}",
        subject=subject(credential),
        organization_id=credential.organization_id,
        project_id=credential.project_id,
    )


def _wire(row: db.CredentialRow) -> m.Credential:
    credential, username = row
    return m.Credential.model_validate(
        {
            "id": credential.id,
            "name": credential.name,
            "type": credential.type,
            "scope": "organization" if credential.project_id is None else "project",
            "details": credential.details,
            "created_by": username,
            "created_at": credential.created_at,
            "updated_at": credential.updated_at,
            "verified_at": credential.verified_at,
            "last_used_at": credential.last_used_at,
        }
    )
