"""How an attached run gets its job: by the login and the project that were chosen when it began."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from periflow_sdk.agent.folder import NodeFolder, write_json
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.embedded import embedded_url
from periflow_sdk.api.login import Login
from periflow_sdk.api.models import AttachedJob, AttachedJobCreate
from periflow_sdk.errors import LoginRequiredError, NotFoundError


def enroll(home: Path, folder: NodeFolder, about: dict[str, Any]) -> tuple[str, AttachedJob]:
    """The control plane's address, and the job of the run with a token for it.

    Raises:
        ServerUnreachableError: no answer, or the local server cannot be started.
        ApiError: what the control plane refuses.
    """
    url = about["url"] or embedded_url(home)
    login = Login(home, about["server"], os.environ.get("PERIFLOW_API_KEY"))
    with login.client(url) as client:
        return url, ask_for_job(client, folder, about)


def ask_for_job(client: ApiClient, folder: NodeFolder, about: dict[str, Any]) -> AttachedJob:
    """The job of a run, made at the first time of asking.

    Args:
        client: With the login of a member of the run's project.
        about: What the run said of itself; the project's id is kept in it and in the folder.
    """
    try:
        if not about["project"].get("id"):
            about["project"]["id"] = _project_id(client, about)
            write_json(folder / "attached.json", about)
        return client.attach_job(about["project"]["id"], job_request(about))
    except LoginRequiredError as error:
        # Not the token of an attempt that is over: this one a person has to renew.
        raise NotFoundError(
            f"The login at {client.url} has ended.", code="login_required", hint="pf login"
        ) from error


def note_job(folder: NodeFolder, url: str, project_id: str, grant: AttachedJob) -> None:
    """Keep in the folder which job it belongs to, as the agent of a job does, and where."""
    document = {
        "url": url,
        "project_id": project_id,
        "job_id": grant.job.id,
        "job": grant.job.number,
        "attempt": grant.attempt,
        "node_rank": 0,
    }
    write_json(folder / "assignment.json", document)


def job_request(about: dict[str, Any]) -> AttachedJobCreate:
    """What a run asks for."""
    return AttachedJobCreate(
        run_id=about["run_id"],
        name=about["name"],
        command=about["command"],
        hostname=socket.gethostname(),
        num_ranks=int(about["num_ranks"]),
    )


def _project_id(client: ApiClient, about: dict[str, Any]) -> str:
    organization, project = about["organization"], about["project"]
    for each in client.organizations():
        if each.name == organization["name"]:
            for found in client.projects(each.id):
                if found.name == project["name"]:
                    return found.id
    raise NotFoundError(
        f"There is no project {project['name']} in organization {organization['name']}.",
        code="project_not_found",
        hint="pf project list",
    )
