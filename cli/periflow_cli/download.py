"""Snapshots downloaded into folders that may have other files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from periflow_cli.connection import Connection
from periflow_sdk.errors import ConflictError, PeriFlowError
from periflow_sdk.snapshots.manifest import DirEntry, Manifest
from periflow_sdk.snapshots.progress import Progress


class Download:
    """A snapshot's files on their way into a folder.

    Args:
        target: Where the files land.
        force: Replace files that are there.
    """

    def __init__(
        self, connection: Connection, snapshot_id: str, target: Path, *, force: bool
    ) -> None:
        self._connection = connection
        self._snapshot = snapshot_id
        self._target = target
        self._force = force

    def check(self) -> Manifest:
        """What will come; nothing is written.

        Raises:
            ConflictError: files of it are there already, and force was not given.
            PeriFlowError: the target is not a folder.
        """
        from periflow_sdk.snapshots.download import read_manifest

        client, project = self._connection.client, self._connection.project.id
        manifest = read_manifest(client, project, self._snapshot)
        if self._target.exists() and not self._target.is_dir():
            raise PeriFlowError(f"{self._target} is not a folder.", code="target_not_a_folder")
        taken = [] if self._force else list(self._taken(manifest))
        if taken:
            raise ConflictError(
                f"{self._target} has {taken[0]} already"
                f"{f' and {len(taken) - 1} more' if len(taken) > 1 else ''}.",
                code="target_exists",
                hint="Choose another folder with -d DIR, or replace them with --force.",
            )
        return manifest

    def run(self, manifest: Manifest, progress: Progress) -> None:
        """Fetch the files; what an earlier, interrupted run has fetched is not fetched again."""
        if not self._target.is_dir() or not any(self._target.iterdir()):
            self._fetch(self._target, progress)
            return
        # The folder has other files: fetch beside it, and move in when all is there.
        beside = self._target.with_name(f".{self._target.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        self._fetch(beside, progress)
        self._move_in(beside, manifest)

    def _fetch(self, target: Path, progress: Progress) -> None:
        from periflow_sdk.snapshots.download import download_snapshot

        client, project = self._connection.client, self._connection.project.id
        download_snapshot(client, project, self._snapshot, target, progress=progress)

    def _taken(self, manifest: Manifest) -> Iterator[str]:
        for entry in manifest.entries:
            path = self._target / entry.path
            if not isinstance(entry, DirEntry) and os.path.lexists(path):
                yield entry.path

    def _move_in(self, beside: Path, manifest: Manifest) -> None:
        for entry in manifest.entries:
            goal = self._target / entry.path
            if isinstance(entry, DirEntry):
                goal.mkdir(parents=True, exist_ok=True)
            else:
                goal.parent.mkdir(parents=True, exist_ok=True)
                (beside / entry.path).replace(goal)
        shutil.rmtree(beside)
