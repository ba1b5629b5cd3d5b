"""Snapshots downloaded into folders that may have other files."""

from __future__ import annotations

import shutil
from pathlib import Path

from periflow_cli.arrival import GATHERING, held, move_in, refuse_taken
from periflow_cli.connection import Connection
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
        paths = (entry.path for entry in manifest.entries if not isinstance(entry, DirEntry))
        refuse_taken(self._target, paths, force=self._force)
        return manifest

    def run(self, progress: Progress) -> None:
        """Fetch the files; what an earlier, interrupted run has fetched is not fetched again."""
        if not self._target.is_dir():
            self._fetch(self._target, progress)
            return
        with held(self._target, self._target):
            gathering = self._target / GATHERING
            shutil.rmtree(gathering, ignore_errors=True)
            self._fetch(gathering, progress)
            move_in(gathering, self._target)

    def _fetch(self, target: Path, progress: Progress) -> None:
        from periflow_sdk.snapshots.download import download_snapshot

        client, project = self._connection.client, self._connection.project.id
        download_snapshot(client, project, self._snapshot, target, progress=progress)
