"""Opening a dataset by its name: in a job, attached or with a login."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.source import DataFile, FolderSource
from periflow_sdk.environment import DataEnvironment, data_environment
from periflow_sdk.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from periflow_sdk.api.client import ApiClient
    from periflow_sdk.api.models import Dataset as FoundDataset
    from periflow_sdk.api.models import DatasetAccess
    from periflow_sdk.data.connection import LoginConnection
    from periflow_sdk.data.source import Source


def open_dataset(name: str) -> Dataset:
    """The dataset of this name in the job's or the current project; see ``periflow_sdk.dataset``.

    Raises:
        UsageError: there is neither a job nor a login.
        NotFoundError: there is no such dataset.
        ForbiddenError: the job's file does not name it.
    """
    if not name:
        raise UsageError("A dataset has a name: pf.dataset('my-data').")
    if "/" in name or "\\" in name:
        raise UsageError(
            f"{name!r} is not the name of a dataset.",
            hint="A folder of this machine is read as a Path: data.stream(Path('./folder')). "
            "`pf dataset list` lists the datasets.",
        )
    environment = data_environment()
    if mount := environment.mounts.get(name):
        original = Path(mount.original)
        source = FolderSource(Path(mount.path), original if original.is_dir() else None)
        return Dataset(name, source, mount.version)
    if environment.token_file is not None and environment.url is not None:
        return _open_in_job(name, environment)
    return _open_with_login(name, environment)


def _open_in_job(name: str, environment: DataEnvironment) -> Dataset:
    from periflow_sdk.data.connection import JobConnection

    assert environment.url is not None and environment.token_file is not None
    connection = JobConnection(environment.url, environment.token_file)
    with connection() as client:
        access = client.dataset_access(name)
        project = client.assignment().project_id
    if access.snapshot_id is not None:
        source = managed_source(connection, name, project, access.snapshot_id)
    else:
        source = linked_source(access, connection, environment.run)
    return Dataset(name, source, access.dataset.version)


def linked_source(
    access: DatasetAccess, connect: Callable[[], ApiClient], run: str | None
) -> Source:
    """Where a job, or its agent, reads a linked dataset.

    Args:
        access: What the control plane grants the job.
        connect: Makes a client with the job's token.
        run: What the processes of this attempt on this machine have in common, by its name.

    Raises:
        UsageError: the dataset has no files.
    """
    from periflow_sdk.data.cache import node_cache
    from periflow_sdk.data.fetcher import Fetcher
    from periflow_sdk.data.link import address, identity
    from periflow_sdk.data.linked import LinkedSource

    if access.link is None:
        raise UsageError(f"the dataset {access.dataset.name} has no files")
    secret = {name: each.get_secret_value() for name, each in (access.secret or {}).items()}
    return LinkedSource(
        identity(access.link, secret),
        Fetcher(access.link, secret, _ServersList(connect, access.dataset)),
        node_cache(),
        address(access.link, secret),
        run,
    )


@dataclass(frozen=True)
class _ServersList:
    """The files of a linked dataset as the control plane lists them, page by page."""

    connect: Callable[[], ApiClient]
    dataset: FoundDataset

    def __call__(self) -> list[DataFile]:
        with self.connect() as client:
            project = client.assignment().project_id
            files = [*client.dataset_files(project, self.dataset.id)]
        # It writes S3's etags without the quotes that belong to them.
        mark = '"' if self.dataset.cloud == "s3" else ""
        return [
            DataFile(f.path, f.size, f"{mark}{f.etag}{mark}" if f.etag else None) for f in files
        ]


def _open_with_login(name: str, environment: DataEnvironment) -> Dataset:
    from periflow_sdk.data.connection import current_project, login_connection

    connection = login_connection(environment)
    with connection() as client:
        project = current_project(client, connection, environment)
        found = _found(client, project, name)
    if found.snapshot_id is not None:
        source = managed_source(connection, found.name, project, found.snapshot_id)
    else:
        source = _signed(connection, project, found)
    return Dataset(found.name, source, found.version)


def _found(client: ApiClient, project: str, name: str) -> FoundDataset:
    try:
        return client.dataset(project, name)
    except NotFoundError as error:
        near = get_close_matches(name, [each.name for each in client.datasets(project)], cutoff=0.5)
        if not near:
            raise
        hint = f"Did you mean {', '.join(near)}? `pf dataset list` lists them all."
        raise NotFoundError(error.message, code=error.code, hint=hint) from None


def _signed(connection: LoginConnection, project: str, found: FoundDataset) -> Source:
    from periflow_sdk.data.cache import node_cache
    from periflow_sdk.data.linked import LinkedSource
    from periflow_sdk.data.signed import SignedBucket

    bucket = SignedBucket(connection, project, found.id, found.cloud)
    return LinkedSource(f"dataset {found.id}", bucket, node_cache(), (_url(found.name), {}))


def managed_source(
    connect: Callable[[], ApiClient], name: str, project: str, snapshot_id: str
) -> Source:
    """Where a dataset is read that PeriFlow keeps; see ``ManagedSource``."""
    from periflow_sdk.data.cache import node_cache
    from periflow_sdk.data.managed import ManagedSource

    return ManagedSource(_url(name), connect, project, snapshot_id, node_cache())


def _url(name: str) -> str:
    return f"pf://{quote(name, safe='')}"
