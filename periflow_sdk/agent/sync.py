"""What an agent could not send: the folder of a run or a node, sent by the login of a person."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from periflow_sdk.agent.attached import GONE
from periflow_sdk.agent.delivery import Delivery
from periflow_sdk.agent.enrollment import ask_for_job, note_job
from periflow_sdk.agent.folder import NodeFolder, read_json, try_lock, write_json
from periflow_sdk.agent.progress import finished_early, read_progress
from periflow_sdk.agent.pruning import release_run
from periflow_sdk.agent.ranks import LocalRanks
from periflow_sdk.agent.rundir import has_unsent, remove_run_dir
from periflow_sdk.agent.state import StateFile
from periflow_sdk.agent.training import Training
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import AgentFinish, AttachedJob, Job, SyncRequest
from periflow_sdk.errors import ConflictError, ServerUnreachableError, UsageError

_TICK_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Synced:
    """What was sent: bytes of records and of output, and checkpoints that became ready."""

    job: Job
    journal_bytes: int = 0
    log_bytes: int = 0
    checkpoints: int = 0


def is_run_folder(path: Path) -> bool:
    """Whether a folder is that of an attached run or of a node of a job."""
    return any((path / name).is_file() for name in ("attached.json", "assignment.json"))


def sync_folder(client: ApiClient, server: str, path: Path) -> Synced:
    """Send what is missing of a run that has ended, once.

    Args:
        client: With the login of a member of the run's project.
        server: What the profile calls its control plane.
        path: The folder of an attached run, or the node folder of a job.

    Raises:
        UsageError: there is no run in the folder, or it belongs to another control plane.
        ConflictError: the run goes on, or an agent is at work there.
        ServerUnreachableError: the control plane was silent for a minute; sync again.
    """
    if not is_run_folder(path):
        raise UsageError(
            f"{path} is not the folder of a run.",
            hint="pf job sync DIR, with the folder that the run's agent named",
        )
    folder = NodeFolder.open(path)
    with _alone(folder):
        about = folder.attached
        if about is not None and about["server"] != server:
            raise UsageError(
                f"This run belongs to {about['server']}.", hint=f"PERIFLOW_URL={about['url'] or ''}"
            )
        return _Sync(folder, client, about).run()


@contextmanager
def _alone(folder: NodeFolder) -> Iterator[None]:
    lock = try_lock(folder / "agent.lock")
    if lock is None:
        raise ConflictError(
            f"An agent is at work in {folder.path}: it sends what is there.", code="run_goes_on"
        )
    try:
        yield
    finally:
        os.close(lock)


class _Sync:
    """One folder on its way, while nobody else works on it."""

    def __init__(self, folder: NodeFolder, client: ApiClient, about: dict[str, Any] | None) -> None:
        self._folder = folder
        self._client = client
        self._about = about
        self._memory = StateFile(folder / "state.json")
        if about is not None:
            self._memory.state.run_dir = str(folder / "run")

    def run(self) -> Synced:
        report = self._ended_as()
        grant = self._grant()
        project = str((read_json(self._folder / "assignment.json") or {})["project_id"])
        has_kept = self._take_up_kept()
        if self._memory.state.phase == "finished" and not has_kept:
            return Synced(grant.job)
        before = self._ready(project, grant.job.number)
        delivery = Delivery(self._folder, self._memory, self._client.url, grant.token)
        self._enter("finishing")
        delivery.start()
        try:
            self._wait_for(delivery, report)
        except BaseException:
            delivery.abandon()
            raise
        self._enter("finished")
        self._release()
        number = grant.job.number
        return Synced(
            self._client.job(project, number),
            journal_bytes=delivery.client.journal_bytes,
            log_bytes=delivery.client.log_bytes,
            checkpoints=self._ready(project, number) - before,
        )

    def _release(self) -> None:
        state = self._memory.state
        if self._about is not None:
            release_run(self._folder, state)
        elif not has_unsent(Path(state.run_dir), state.journal_offsets):
            remove_run_dir(Path(state.run_dir))

    def _wait_for(self, delivery: Delivery, report: AgentFinish) -> None:
        delivery.last_call()
        while True:
            delivery.tend()
            if delivery.is_superseded:
                raise ConflictError("The job takes nothing more from this run.", code="run_refused")
            if delivery.is_done() and delivery.finish(report):
                return
            if time.monotonic() - delivery.heard_at > _PATIENCE_SECONDS:
                raise ServerUnreachableError(
                    f"{self._client.url} does not answer any more.", hint="the same command again"
                )
            time.sleep(_TICK_SECONDS)

    def _grant(self) -> AttachedJob:
        if self._about is not None:
            grant = ask_for_job(self._client, self._folder, self._about)
            note_job(self._folder, self._client.url, self._about["project"]["id"], grant)
            return grant
        given = read_json(self._folder / "assignment.json") or {}
        wanted = SyncRequest(attempt=given["attempt"], node=given["node_rank"])
        return self._client.sync_job(given["project_id"], given["job_id"], wanted)

    def _ended_as(self) -> AgentFinish:
        """How the run ended; what it left is only whole then.

        Raises:
            ConflictError: it goes on.
        """
        run_dir = Path(self._memory.state.run_dir or self._folder / "run")
        if self._about is None:
            training = Training(self._folder, str(run_dir))
            if training.was_started() and training.poll() is None:
                raise _goes_on()
            return AgentFinish(outcome="error", reason="its agent was gone")
        progress = read_progress(run_dir)
        verdict = LocalRanks(run_dir, 1).poll() if progress else "gone"
        if verdict == "running":
            raise _goes_on()
        is_well = verdict == "finished"
        if not (self._folder / "exit.json").exists():
            write_json(self._folder / "exit.json", {"exit_code": 0 if is_well else None})
        if is_well:
            is_early = finished_early(progress.values())
            return AgentFinish(outcome="exited", exit_code=0, finished_early=is_early)
        return AgentFinish(outcome="error", reason=GONE)

    def _take_up_kept(self) -> bool:
        """Have checkpoints that failed and were kept sent, too."""
        path = self._folder / "worker.json"
        document = read_json(path) or {}
        if not document.get("ledger", {}).get("kept"):
            return False
        write_json(path, {**document, "complete": False, "sends_kept": True})
        return True

    def _ready(self, project: str, number: int) -> int:
        found = self._client.checkpoints(project, job=number)
        return sum(each.status == "ready" for each in found)

    def _enter(self, phase: Any) -> None:
        self._memory.state.phase = phase
        self._memory.save()


def _goes_on() -> ConflictError:
    return ConflictError("The run goes on: sync it when it has ended.", code="run_goes_on")
