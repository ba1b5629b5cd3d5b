"""What relies on credentials: jobs that name them, and notifications."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from periflow_sdk.api import models as m
from periflow_sdk.api.jobfile import Docker, JobSpec, SlackPlugin, WandbPlugin
from periflow_server.db.base import Session
from periflow_server.db.credential import Credential, rules_with, unfinished_jobs_of
from periflow_server.db.project import Project

Use = Literal["docker", "wandb", "slack"]
Section = Docker | WandbPlugin | SlackPlugin


def uses_of(
    session: Session, credential: Credential, *, project_id: str | None
) -> list[m.CredentialUse]:
    """Which jobs that have not ended, and which notifications, rely on a credential.

    Args:
        project_id: Where the caller looks from; what is in other projects has no name for him.
    """
    found: list[m.CredentialUse] = []
    for job, project in unfinished_jobs_of(session, credential.organization_id):
        named = {each.credential_id for _, each in sections(JobSpec.model_validate(job.spec))}
        if credential.id in named:
            found.append(_described("job", f"{job.number} ({job.name})", project, project_id))
    for rule, project in rules_with(session, credential.id):
        found.append(_described("notification", rule.label, project, project_id))
    return found


def in_words(uses: list[m.CredentialUse]) -> str:
    """What uses a credential, as a part of a sentence."""
    known = [f"{use.kind} {use.name}" for use in uses if use.name]
    hidden = len(uses) - len(known)
    more = [f"{hidden} in other projects"] if hidden else []
    return ", ".join(known + more)


def sections(spec: JobSpec) -> Iterator[tuple[Use, Section]]:
    """The sections of a job file that name a credential."""
    if spec.job_setting.docker.credential_id is not None:
        yield "docker", spec.job_setting.docker
    if spec.plugin.wandb is not None:
        yield "wandb", spec.plugin.wandb
    if spec.plugin.slack is not None:
        yield "slack", spec.plugin.slack


def _described(
    kind: Literal["job", "notification"], name: str, project: Project, seen_from: str | None
) -> m.CredentialUse:
    is_visible = project.id == seen_from
    return m.CredentialUse(
        kind=kind,
        name=name if is_visible else "",
        project=project.name if is_visible else "",
    )
