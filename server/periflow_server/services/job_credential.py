"""Credentials in the hands of those that use them; each use is noted.

A job's values go to its agents alone, and only until the command starts: from then on the job's
token lies where the command can read it, and gets nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from periflow_sdk.api import models as m
from periflow_sdk.api.jobfile import CredentialPurpose, Docker, JobSpec
from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError
from periflow_server.db.base import Session, utcnow
from periflow_server.db.credential import Credential, credential_with_id
from periflow_server.db.project import Project
from periflow_server.services import attempt as attempts
from periflow_server.services import audit
from periflow_server.services.credential import find_in, subject, values_of
from periflow_server.services.token import AttemptIdentity
from periflow_server.services.vault import Vault

_DEFAULT_REGISTRY = "docker.io"
_FOR_AGENTS: tuple[CredentialPurpose, ...] = ("docker", "wandb")
"""Slack is told by the server: agents need nothing for it."""


def pin(session: Session, project: Project, spec: JobSpec) -> None:
    """Put ids in the place of the names of credentials, once each is known to fit.

    A later credential of the same name changes no job.

    Raises:
        NotFoundError: there is none of this name (``credential_not_found``).
        InvalidRequestError: it is for something else (``credential_type``), or for another
            registry than the image's (``credential_registry``).
    """
    for use, section in spec.credential_sections():
        credential, _ = find_in(
            session, project.organization_id, project.id, str(section.credential_id)
        )
        if credential.type != use:
            raise InvalidRequestError(
                f"Credential {credential.name} is for {credential.type}, and the job file names "
                f"it for {use}.",
                code="credential_type",
                hint=f"Run `pf credential list -t {use}`.",
            )
        if isinstance(section, Docker):
            _require_registry(credential, section.image)
        section.credential_id = credential.id


def hand_out(
    session: Session, vault: Vault, identity: AttemptIdentity, urls: Mapping[str, str]
) -> m.JobCredentials:
    """What the agent of one node needs of what its job names, until it has closed this.

    Args:
        urls: Where services are found, by what a credential is used for.

    Raises:
        ConflictError: it has (``credentials_closed``), or its attempt is over.
        NotFoundError: one of them was deleted (``credential_not_found``).
    """
    job, attempt, node = attempts.of_agent(session, identity)
    if identity.is_late or node.credentials_closed_at is not None:
        raise ConflictError(
            "The credentials of this job were handed out before its command started.",
            code="credentials_closed",
        )
    project = session.get_one(Project, job.project_id)
    actor = f"job {job.number} (attempt {attempt.number}, node {node.rank})"
    found = []
    for use, section in JobSpec.model_validate(job.spec).credential_sections():
        if use in _FOR_AGENTS:
            credential = _named(session, project, str(section.credential_id))
            values = use_credential(session, vault, credential, actor, project)
            named = {"use": use, "id": credential.id, "name": credential.name}
            found.append({**named, "values": values, "url": urls.get(use)})
    return m.JobCredentials.model_validate({"credentials": found})


def close(session: Session, identity: AttemptIdentity) -> None:
    """The command of a node is about to start: whoever reads its token there gets nothing."""
    _, _, node = attempts.of_agent(session, identity)
    node.credentials_closed_at = node.credentials_closed_at or utcnow()


def values_for_server(
    session: Session, vault: Vault, credential_id: str, project_id: str
) -> dict[str, str]:
    """The values of a credential that the server uses itself for a project, noted as a use.

    Raises:
        NotFoundError: it was deleted, or is another project's (``credential_not_found``).
    """
    project = session.get_one(Project, project_id)
    return use_credential(
        session, vault, _named(session, project, credential_id), "server", project
    )


def _named(session: Session, project: Project, credential_id: str) -> Credential:
    credential = credential_with_id(session, project.organization_id, project.id, credential_id)
    if credential is None:
        raise NotFoundError(
            f"The credential {credential_id} was deleted.",
            code="credential_not_found",
            hint="Run `pf credential list`, and name another one.",
        )
    return credential


def use_credential(
    session: Session, vault: Vault, credential: Credential, actor: str, project: Project
) -> dict[str, str]:
    """The values of a credential, for whom or what uses it in a project; noted.

    Args:
        actor: See ``audit.record``.
    """
    values = values_of(vault, credential)
    credential.last_used_at = utcnow()
    audit.record(
        session,
        actor=actor,
        action="credential.use",
        subject=subject(credential),
        organization_id=project.organization_id,
        project_id=project.id,
    )
    return values


def _require_registry(credential: Credential, image: str) -> None:
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry = first.lower() if is_host else _DEFAULT_REGISTRY
    own = credential.details.get("registry", _DEFAULT_REGISTRY)
    if registry != own:
        raise InvalidRequestError(
            f"Credential {credential.name} is for the registry {own}, and the image {image} is "
            f"in {registry}.",
            code="credential_registry",
            hint=f"pf credential create docker -n NAME --registry {registry} ...",
        )
