"""The datasets of a job on its node: in the cache that all jobs of the machine share."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk.agent.endpoint import Endpoint
from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.mounts import Layout, Mount
from periflow_sdk.api.jobfile import HUB_PREFIX
from periflow_sdk.data.access import linked_source, managed_source
from periflow_sdk.data.cache import node_cache, pin

if TYPE_CHECKING:
    from periflow_sdk.api.client import ApiClient
    from periflow_sdk.api.models import Assignment, DataMount
    from periflow_sdk.data.source import Source

_TIMEOUT_SECONDS = 60.0


class DatasetFolders:
    """Brings the datasets that are mounted to this machine, and remembers where each lies."""

    def __init__(self, endpoint: Endpoint, assignment: Assignment, folder: NodeFolder) -> None:
        self._endpoint = endpoint
        self._assignment = assignment
        self._folder = folder

    def is_streamed(self, number: int) -> bool:
        """Whether the job reads this one as it goes, and nothing of it is fetched before."""
        return self._assignment.spec.data[number].mode == "stream"

    def find(self, number: int) -> bool:
        """Whether an earlier agent of this attempt has brought it, and it is still there."""
        link = self._folder / "data" / str(number)
        return link.is_dir() and pin(link.resolve())

    def fetch(self, number: int) -> None:
        """Bring it here; jobs that ask for the same at once wait for one download.

        Raises:
            PeriFlowError: it cannot be read, or does not fit.
        """
        mount = self._assignment.data[number]
        place = self._place(mount)
        link = self._folder / "data" / str(number)
        link.parent.mkdir(exist_ok=True)
        fresh = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
        fresh.symlink_to(place)
        fresh.replace(link)

    def _place(self, mount: DataMount) -> Path:
        if mount.name.startswith(HUB_PREFIX):
            from periflow_sdk.agent.hub import fetch_from_hub

            token = self._assignment.spec.env.get("HF_TOKEN")
            return fetch_from_hub(mount.name.removeprefix(HUB_PREFIX), node_cache(), token)
        return self._source(mount).folder()

    def _source(self, mount: DataMount) -> Source:
        connect = _Connect(self._endpoint)
        if mount.snapshot_id is not None:
            project = self._assignment.project_id
            return managed_source(connect, mount.name, project, mount.snapshot_id)
        with connect() as client:
            access = client.dataset_access(mount.name)
        # Listed now, and again should it change meanwhile.
        return linked_source(access, connect, run=None)


class _Connect:
    """Makes clients with the job's token."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(self) -> ApiClient:
        return self._endpoint.connect(timeout_seconds=_TIMEOUT_SECONDS)


def with_own_copies(places: Layout, folder: NodeFolder) -> Layout:
    """The same layout with copies of the datasets, where no view can keep them as they are."""

    def own(number: int, mount: Mount) -> Mount:
        target = folder / "data-copy" / str(number)
        target.parent.mkdir(exist_ok=True)
        copy_whole(mount.source, target)
        return replace(mount, source=target)

    return replace(places, data=tuple(own(n, mount) for n, mount in enumerate(places.data)))


def copy_whole(
    source: Path, target: Path, copy: Callable[[str, str], object] = shutil.copy2
) -> None:
    """A second copy of a folder, under its name only when whole."""
    if target.exists():
        return
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, symlinks=True, copy_function=copy)
    os.rename(partial, target)  # noqa: PTH104
