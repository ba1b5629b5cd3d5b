"""The bulk work of a node, niced: checkpoints from the staging folder to the control plane."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk.agent.checkpoints import Gathering, Ledger
from periflow_sdk.agent.endpoint import Endpoint
from periflow_sdk.agent.folder import NodeFolder, read_json, write_json
from periflow_sdk.agent.journal import segments
from periflow_sdk.agent.patience import (
    Backoff,
    SupersededError,
    check_superseded,
    for_ever,
    is_passing,
)
from periflow_sdk.agent.progress import read_progress
from periflow_sdk.agent.staged import remove_staged, staged_files
from periflow_sdk.errors import CheckpointError, PeriFlowError, UnsafePathError

if TYPE_CHECKING:
    from periflow_sdk.api.client import ApiClient

_log = logging.getLogger(__name__)
NICENESS = 19
_INTERVAL_SECONDS = 0.25
_READ_BYTES = 4 * 1024 * 1024
_TRIES = 4
_STORE_TRIES = 30
_PR_SET_PDEATHSIG = 1


class Worker:
    """Follows the journal for staged checkpoints and settles each of them.

    Args:
        connect: Gives a client; called when the first checkpoint is there, as it costs memory.
    """

    def __init__(self, folder: NodeFolder, connect: Callable[[], ApiClient]) -> None:
        self._folder = folder
        self._connect = connect
        self._client: ApiClient | None = None
        memory = read_json(folder / "worker.json") or {}
        self._offsets: dict[str, int] = memory.get("offsets", {})
        self._ledger = Ledger.from_document(memory.get("ledger", {}))

    def run(self) -> None:
        """Work until the training has ended and every checkpoint is settled.

        Raises:
            SupersededError: this attempt may commit nothing more.
        """
        while not self._round():
            time.sleep(_INTERVAL_SECONDS)
        self._save(complete=True)

    def _round(self) -> bool:
        """Settle what can be settled now; True when nothing more can come."""
        state = read_json(self._folder / "state.json") or {}
        run_dir = Path(state["run_dir"])
        ended: bool = state["phase"] == "finishing"
        # Before the journal: what a rank recorded before it moved on is then read, too.
        progress = read_progress(run_dir)
        self._read_journal(run_dir)
        ended_well = (read_json(self._folder / "exit.json") or {}).get("exit_code") == 0
        for gathering in list(self._ledger.gatherings):
            verdict = self._ledger.verdict(gathering, progress, ended=ended, ended_well=ended_well)
            if verdict == "whole":
                self._settle(gathering, self._upload)
            elif verdict == "torn":
                self._settle(gathering, _refuse_torn)
        return ended

    def _read_journal(self, run_dir: Path) -> None:
        before, broken = dict(self._offsets), self._ledger.broken_records
        for segment in segments(run_dir):
            offset = self._offsets.get(segment.key, 0)
            while lines := segment.read_lines(offset, _READ_BYTES):
                self._ledger.read(segment.rank, lines, segment.pid)
                offset += len(lines)
            self._offsets[segment.key] = offset
        if self._ledger.broken_records > broken:
            _log.warning("%d checkpoint records were no use", self._ledger.broken_records - broken)
        if self._offsets != before:
            self._save()

    def _settle(self, gathering: Gathering, upload: Callable[[Gathering], str]) -> None:
        """Announce a checkpoint, then commit it or say why it failed."""
        from periflow_sdk.api.models import CheckpointCommit, CheckpointStart

        announcement = CheckpointStart(
            upload_id=gathering.upload_id,
            step=gathering.step,
            save_type=gathering.save_type,
            size=gathering.size,
        )
        try:
            known = for_ever(lambda: self._api().start_checkpoint(announcement))
        except SupersededError:
            raise
        except PeriFlowError as error:
            _log.error("the checkpoint of step %s is refused: %s", gathering.step, error)
            self._forget(gathering)
            return
        if known.status != "ready":
            try:
                commit = CheckpointCommit(snapshot_id=self._stubborn(lambda: upload(gathering)))
            except (PeriFlowError, OSError) as error:
                if isinstance(error, SupersededError):
                    raise
                _log.error("the checkpoint of step %s failed: %s", gathering.step, error)
                commit = CheckpointCommit(failure=str(error).rstrip(".")[:500])
            known = for_ever(lambda: self._api().commit_checkpoint(gathering.upload_id, commit))
        if known.status == "ready":
            for part in gathering.parts:
                remove_staged(self._folder.checkpoint, part)
        self._forget(gathering)

    def _forget(self, gathering: Gathering) -> None:
        self._ledger.gatherings.remove(gathering)
        self._save()

    def _upload(self, gathering: Gathering) -> str:
        from periflow_sdk.snapshots import upload_files

        project = (read_json(self._folder / "assignment.json") or {})["project_id"]
        with staged_files(self._folder.checkpoint, gathering) as files:
            return upload_files(self._api(), project, files).id

    def _stubborn(self, upload: Callable[[], str]) -> str:
        """Try for ever while the control plane is away, else a number of times."""
        backoff = Backoff()
        tries = 0
        while True:
            try:
                return upload()
            except (PeriFlowError, OSError) as error:
                if isinstance(error, PeriFlowError):
                    check_superseded(error)
                tries += 0 if is_passing(error) else 1
                if _is_final(error) or tries >= _patience(error):
                    raise
                _log.warning("%s; uploading again", error)
            backoff.pause()

    def _api(self) -> ApiClient:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _save(self, *, complete: bool = False) -> None:
        document = {
            "offsets": self._offsets,
            "ledger": self._ledger.to_document(),
            "complete": complete,
        }
        write_json(self._folder / "worker.json", document)


def be_humble() -> None:
    """Give way to the training, end with the supervisor, and allow for many open files."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.nice(NICENESS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _refuse_torn(gathering: Gathering) -> str:
    raise CheckpointError(
        f"The training ended before every rank had passed step {gathering.step}; "
        "a part may be missing."
    )


def _is_final(error: Exception) -> bool:
    return isinstance(error, (CheckpointError, UnsafePathError))


def _patience(error: Exception) -> int:
    """How often an upload is tried: a store may be away for a while, a disk is not."""
    return _STORE_TRIES if getattr(error, "code", "") == "transfer_failed" else _TRIES


def run_worker(folder: NodeFolder, endpoint: Endpoint, supervisor: int) -> int:
    """The worker process; 0 when all is settled, or nothing more is wanted of it.

    Args:
        supervisor: The pid of the process that started it; without that one it leaves.
    """
    be_humble()
    if os.getppid() != supervisor:
        return 0
    try:
        Worker(folder, endpoint.connect).run()
    except SupersededError as error:
        _log.info("%s", error)
    return 0
