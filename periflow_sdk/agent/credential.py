"""The credentials that a job's file names: asked for before the command starts, kept in memory.

They are in no file and in no environment. The job's token lies where the command can read it, so
the control plane is told, before the command starts, to hand out nothing to this node any more.
"""

from __future__ import annotations

from collections.abc import Callable

from periflow_sdk.agent.patience import for_ever
from periflow_sdk.agent.sinks.seclusion import guard_memory
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.api.models import JobCredential
from periflow_sdk.errors import ConflictError

_FOR_AGENTS = ("docker", "wandb")
"""Slack is told by the control plane."""


def take_credentials(
    client: ApiClient, spec: JobSpec, tell: Callable[[str, str], None], leave: Callable[[], bool]
) -> list[JobCredential]:
    """What the job's file names of credentials that an agent needs; none after a restart.

    Args:
        tell: Adds an event (kind, message).
        leave: True when they are no longer wanted.

    Raises:
        NotFoundError: one of them was deleted.
    """
    if not any(purpose in _FOR_AGENTS for purpose, _ in spec.credential_sections()):
        return []
    try:
        taken = for_ever(client.job_credentials, leave=leave).credentials
    except ConflictError as error:
        if error.code != "credentials_closed":
            raise
        tell("warning", "The agent was started again and has no credentials any more.")
        return []
    guard_memory()
    for_ever(client.close_credentials, leave=leave)
    names = ", ".join(f"{each.name} (for {each.use})" for each in taken)
    tell("preparing", f"Took the credentials {names}.")
    return taken
