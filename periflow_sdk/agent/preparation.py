"""What must be there before the command starts: code, data, the newest checkpoint."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from periflow_sdk.agent.dataset import DatasetFolders, copy_whole
from periflow_sdk.agent.folder import NodeFolder, read_json, write_json
from periflow_sdk.agent.patience import Backoff, check_superseded, is_passing
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import Assignment, RestorePoint
from periflow_sdk.errors import (
    ApiError,
    CheckpointError,
    IntegrityError,
    NotFoundError,
    PeriFlowError,
    UnsafePathError,
)

T = TypeVar("T")
_log = logging.getLogger(__name__)
_FAULT_TRIES = 7
_FAULTS = ("transfer_failed", "bucket_failed", "fetcher_ended", "dataset_changed")


@dataclass(frozen=True)
class Restored:
    """The checkpoint that the command starts from; ``name`` is its only entry, "" for several."""

    name: str
    point: RestorePoint


class Preparation:
    """Fetches everything an assignment names into the node folder; done parts are not repeated.

    Args:
        tell: Adds an event (kind, message).
        client: A client with time-outs for bulk work.
        datasets: Where those of the job go.
    """

    def __init__(
        self,
        client: ApiClient,
        assignment: Assignment,
        folder: NodeFolder,
        tell: Callable[[str, str], None],
        datasets: DatasetFolders,
    ) -> None:
        self._client = client
        self._assignment = assignment
        self._folder = folder
        self._tell = tell
        self._datasets = datasets

    def run(self) -> Restored | None:
        """Fetch all; what was restored, if there is anything.

        Raises:
            PeriFlowError: something is not there any more or cannot be stored here.
        """
        self._fetch_workspace()
        for number, data in enumerate(self._assignment.data):
            self._fetch_dataset(number, data.name)
        return self._restore()

    def _fetch_dataset(self, number: int, name: str) -> None:
        if self._datasets.is_streamed(number):
            self._tell("preparing", f"The dataset {name} is read while the job runs.")
        elif not self._datasets.find(number):
            self._insist(lambda: self._datasets.fetch(number))
            self._tell("preparing", f"Fetched the dataset {name}.")

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

    def _restore(self) -> Restored | None:
        folder = self._folder.checkpoint
        separate = self._assignment.spec.checkpoint.input is not None
        point = None
        if self._assignment.restore:
            point = self._fetch_newest(self._folder.restored if separate else folder)
            if separate:
                copy_whole(self._folder.restored, folder)
        self._folder.restored.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        if not point:
            return None
        entries = [entry.name for entry in folder.iterdir() if entry.name != ".periflow"]
        return Restored(entries[0] if len(entries) == 1 else "", point)

    def _fetch_newest(self, target: Path) -> RestorePoint:
        """Fetch the newest checkpoint that is whole.

        Raises:
            CheckpointError: none is; the job must not begin again from step 0 unasked.
        """
        note = self._folder / "restored.json"
        if target.exists():
            return RestorePoint.model_validate(read_json(note))
        assert self._assignment.restore is not None
        damaged: list[int] = []
        for point in (self._assignment.restore, *self._assignment.older):
            write_json(note, point.model_dump(mode="json"))
            try:
                self._fetch(point.snapshot_id, target)
            except (IntegrityError, NotFoundError) as error:
                damaged.append(point.step)
                self._tell("warning", f"The checkpoint of step {point.step} is damaged: {error}")
                continue
            self._tell("preparing", f"Restored checkpoint of step {point.step}.")
            return point
        steps = ", ".join(map(str, damaged))
        raise CheckpointError(
            f"No checkpoint of this job is whole (step {steps}), and it does not begin again "
            "from step 0 by itself.",
            hint="Submit the job again to begin anew.",
        )

    def _fetch(self, snapshot: str, target: Path) -> bool:
        """Download what is not there; the target appears only when it is whole."""
        from periflow_sdk.snapshots import download_snapshot

        if target.exists():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        project = self._assignment.project_id
        self._insist(lambda: download_snapshot(self._client, project, snapshot, target))
        return True

    def _insist(self, work: Callable[[], object]) -> None:
        """Try for as long as the control plane is away, else a number of times."""
        backoff = Backoff()
        tries = 0
        while True:
            try:
                work()
                return
            except PeriFlowError as error:
                check_superseded(error)
                # Silence may last for hours; a server that answers with a fault may keep to it.
                is_fault = error.code in _FAULTS or type(error) is ApiError
                tries += is_fault
                if tries >= _FAULT_TRIES or not (is_fault or is_passing(error)):
                    raise
                _log.warning("%s; downloading again", error)
                backoff.pause()


def in_background(work: Callable[[], T | None], leave: Callable[[], bool]) -> T | None:
    """The result of ``work``, or None when ``leave`` says that nobody waits for it any more.

    The thread is left behind then: it ends with the process, and what it fetched is kept.
    """
    result: list[T | None] = []
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
