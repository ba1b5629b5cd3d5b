"""What must be there before the command starts: code, data, the newest checkpoint."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.patience import Backoff, check_superseded, is_passing
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import Assignment
from periflow_sdk.errors import ApiError, PeriFlowError, UnsafePathError

_log = logging.getLogger(__name__)
_FAULT_TRIES = 7


class Preparation:
    """Fetches everything an assignment names into the node folder; done parts are not repeated.

    Args:
        tell: Adds an event (kind, message).
        client: A client with time-outs for bulk work.
    """

    def __init__(
        self,
        client: ApiClient,
        assignment: Assignment,
        folder: NodeFolder,
        tell: Callable[[str, str], None],
    ) -> None:
        self._client = client
        self._assignment = assignment
        self._folder = folder
        self._tell = tell

    def run(self) -> str | None:
        """Fetch all; the name of the restored entry below the checkpoint folder, if any.

        Raises:
            PeriFlowError: something is not there any more or cannot be stored here.
        """
        self._fetch_workspace()
        for n, data in enumerate(self._assignment.data):
            target = self._folder / "data" / str(n)
            if self._fetch(data.snapshot_id, target):
                self._tell("preparing", f"Fetched the dataset {data.name}.")
        return self._restore()

    def _fetch_workspace(self) -> None:
        root = self._folder / "workspace"
        root.mkdir(exist_ok=True)
        workspace = self._assignment.workspace
        if not workspace:
            return
        if PurePosixPath(workspace.name).name != workspace.name or workspace.name == "..":
            raise UnsafePathError(f"The workspace is named {workspace.name!r}, which is a path.")
        if self._fetch(workspace.snapshot_id, root / workspace.name):
            self._tell("preparing", f"Fetched the workspace {workspace.name}.")

    def _restore(self) -> str | None:
        folder = self._folder.checkpoint
        restore = self._assignment.restore
        separate = self._assignment.spec.checkpoint.input is not None
        if restore:
            target = self._folder.restored if separate else folder
            if self._fetch(restore.snapshot_id, target):
                self._tell("preparing", f"Restored checkpoint of step {restore.step}.")
            if separate:
                _copy(self._folder.restored, folder)
        self._folder.restored.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        if not restore:
            return None
        entries = [entry.name for entry in folder.iterdir() if entry.name != ".periflow"]
        return entries[0] if len(entries) == 1 else ""

    def _fetch(self, snapshot: str, target: Path) -> bool:
        """Download what is not there; the target appears only when it is whole."""
        from periflow_sdk.snapshots import download_snapshot

        if target.exists():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        backoff = Backoff()
        tries = 0
        while True:
            try:
                download_snapshot(self._client, self._assignment.project_id, snapshot, target)
                return True
            except PeriFlowError as error:
                check_superseded(error)
                # Silence may last for hours; a server that answers with a fault may keep to it.
                is_fault = error.code == "transfer_failed" or type(error) is ApiError
                tries += is_fault
                if tries >= _FAULT_TRIES or not (is_fault or is_passing(error)):
                    raise
                _log.warning("%s; downloading again", error)
                backoff.pause()


def _copy(source: Path, target: Path) -> None:
    """A second whole copy: the job overwrites one, and a link would change the other with it."""
    if target.exists():
        return
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, symlinks=True)
    partial.rename(target)


def in_background(work: Callable[[], str | None], leave: Callable[[], bool]) -> str | None:
    """The result of ``work``, or None when ``leave`` says that nobody waits for it any more.

    The thread is left behind then: it ends with the process, and what it fetched is kept.
    """
    result: list[str | None] = []
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=run, name="preparation", daemon=True)
    thread.start()
    while thread.is_alive() and not leave():
        thread.join(0.05)
    if trouble:
        raise trouble[0]
    return result[0] if result else None
