"""What relies on credentials: jobs that name them, datasets, and notifications."""

from __future__ import annotations

from typing import Literal

from periflow_sdk.api import models as m
from periflow_sdk.api.jobfile import JobSpec
from periflow_server.db.base import Session
from periflow_server.db.credential import Credential, jobs_with, rules_with
from periflow_server.db.dataset import linked_with
from periflow_server.db.project import Project


def uses_of(
    session: Session, credential: Credential, *, project_id: str | None
) -> list[m.CredentialUse]:
    """Which jobs that have not ended, linked datasets and notifications rely on a credential.

    Args:
        project_id: Where the caller looks from; what is in other projects has no name for him.
    """
    found: list[m.CredentialUse] = []
    for job, project in jobs_with(session, credential):
        sections = JobSpec.model_validate(job.spec).credential_sections()
        if any(section.credential_id == credential.id for _, section in sections):
            found.append(_described("job", f"{job.number} ({job.name})", project, project_id))
    for dataset, project in linked_with(session, credential.id):
        found.append(_described("dataset", dataset.name, project, project_id))
    for rule, project in rules_with(session, credential.id):
        found.append(_described("notification", rule.label, project, project_id))
    return found


def in_words(uses: list[m.CredentialUse]) -> str:
    """What uses a credential, as a part of a sentence."""
    known = [f"{use.kind} {use.name}" for use in uses if use.name]
    hidden = len(uses) - len(known)
    more = [f"{hidden} in other projects"] if hidden else []
    return ", ".join(known + more)


def _described(
    kind: Literal["job", "dataset", "notification"],
    name: str,
    project: Project,
    seen_from: str | None,
) -> m.CredentialUse:
    is_visible = project.id == seen_from
    return m.CredentialUse(
        kind=kind,
        name=name if is_visible else "",
        project=project.name if is_visible else "",
    )
