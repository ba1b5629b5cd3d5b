"""Opening a dataset by its name: in a job, attached or with a login."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.source import FolderSource
from periflow_sdk.environment import DataEnvironment, data_environment
from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from periflow_sdk.api.models import DatasetAccess
    from periflow_sdk.data.connection import JobConnection, LoginConnection
    from periflow_sdk.data.source import Source


def open_dataset(name: str) -> Dataset:
    """The dataset of this name in the job's or the current project; see ``periflow_sdk.dataset``.

    Raises:
        UsageError: there is neither a job nor a login.
        NotFoundError: there is no such dataset.
        ForbiddenError: the job's file does not name it.
    """
    environment = data_environment()
    if mount := environment.mounts.get(name):
        original = Path(mount.original)
        source = FolderSource(Path(mount.path), original if original.is_dir() else None)
        return Dataset(name, source, mount.version)
    if environment.token_file is not None and environment.url is not None:
        return _open_in_job(name, environment.url, environment.token_file)
    return _open_with_login(name, environment)


def _open_in_job(name: str, url: str, token_file: Path) -> Dataset:
    from periflow_sdk.data.connection import JobConnection

    connection = JobConnection(url, token_file)
    with connection() as client:
        access = client.dataset_access(name)
        project = client.assignment().project_id
    return Dataset(name, job_source(connection, project, access), access.dataset.version)


def job_source(connection: JobConnection, project: str, access: DatasetAccess) -> Source:
    """Where a job, or its agent, reads a dataset.

    Args:
        connection: With the job's token.
        project: Id of the job's project.
        access: What the control plane grants the job.

    Raises:
        UsageError: the dataset has no files.
    """
    if access.snapshot_id is not None:
        return _managed(connection, access.dataset.name, project, access.snapshot_id)
    if access.link is None:
        raise UsageError(f"the dataset {access.dataset.name} has no files")
    from periflow_sdk.data.cache import node_cache
    from periflow_sdk.data.linked import LinkedSource

    return LinkedSource(access.link, access.secret or {}, node_cache())


def _open_with_login(name: str, environment: DataEnvironment) -> Dataset:
    from periflow_sdk.data.connection import current_project, login_connection

    connection = login_connection(environment)
    with connection() as client:
        project = current_project(client, connection, environment)
        found = client.dataset(project, name)
    source: Source
    if found.snapshot_id is not None:
        source = _managed(connection, found.name, project, found.snapshot_id)
    else:
        from periflow_sdk.data.cache import node_cache
        from periflow_sdk.data.signed import SignedSource

        source = SignedSource(_url(found.name), connection, project, found.id, node_cache())
    return Dataset(found.name, source, found.version)


def _managed(
    connection: JobConnection | LoginConnection, name: str, project: str, snapshot_id: str
) -> Source:
    from periflow_sdk.data.cache import node_cache
    from periflow_sdk.data.managed import ManagedSource

    return ManagedSource(_url(name), connection, project, snapshot_id, node_cache())


def _url(name: str) -> str:
    return f"pf://{quote(name, safe='')}"
