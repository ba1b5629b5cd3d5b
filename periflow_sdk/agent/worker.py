"""The bulk work of a node, niced: checkpoints from the staging folder to the control plane."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk.agent.committed import note_committed
from periflow_sdk.agent.folder import NodeFolder, read_json, write_json
from periflow_sdk.agent.gathering import Gathering
from periflow_sdk.agent.handover import Handover, Look
from periflow_sdk.agent.journal import segments
from periflow_sdk.agent.kept import (
    earlier_attempts,
    is_deserted,
    place_of,
    remove_unkept,
)
from periflow_sdk.agent.leases import LeaseKeeper, recover
from periflow_sdk.agent.ledger import Ledger
from periflow_sdk.agent.memory import MemoryWriter
from periflow_sdk.agent.patience import SupersededError, for_ever
from periflow_sdk.agent.priority import be_humble
from periflow_sdk.agent.progress import RankProgress, read_progress
from periflow_sdk.agent.rundir import retire_deserted
from periflow_sdk.agent.sending import Sender, is_final, refusing
from periflow_sdk.agent.staged import remove_staged, written_sizes
from periflow_sdk.errors import CheckpointError, PeriFlowError

if TYPE_CHECKING:
    from periflow_sdk.api.client import ApiClient

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS = 0.25
_URGENT_SECONDS = 0.03
_REPORT_SECONDS, _URGENT_REPORT_SECONDS = 0.5, 0.1
_READ_BYTES = 4 * 1024 * 1024


class Worker:
    """Follows the journal for staged checkpoints and settles each of them.

    Args:
        connect: Gives a client; called when the first checkpoint is there, as it costs memory.
    """

    def __init__(
        self, folder: NodeFolder, connect: Callable[[], ApiClient], *, is_urgent: bool = False
    ) -> None:
        self._folder = folder
        self._is_urgent = is_urgent
        self._connect = connect
        self._client: ApiClient | None = None
        memory = read_json(folder / "worker.json") or {}
        self._offsets: dict[str, int] = memory.get("offsets", {})
        self._ledger = Ledger.from_document(memory.get("ledger", {}))
        assignment = read_json(folder / "assignment.json") or {}
        self._ledger.is_gang = assignment.get("num_nodes", 1) > 1
        self._handover: Handover | None = None
        self._sends_kept: bool = memory.get("sends_kept", False)
        self._memory: MemoryWriter | None = None
        self._leases: LeaseKeeper | None = None
        self._sender = Sender(folder, self._api, is_urgent=is_urgent)

    def run(self) -> None:
        """Work until the training has ended and every checkpoint is settled.

        Raises:
            SupersededError: this attempt may commit nothing more.
        """
        if self._is_urgent:
            self._prepare()
        else:
            self._settle_earlier()
        while not self._round():
            time.sleep(self._interval_seconds)
        if self._sends_kept:
            self._send_kept()
        self._sends_kept = False
        self._save(complete=True)

    def _send_kept(self, attempt: int | None = None) -> None:
        kept, self._ledger.kept = self._ledger.kept, []  # they come back if they cannot be sent
        if self._ledger.is_gang:
            self._handed_over(attempt).deliver(kept)
            return
        for gathering in kept:
            self._settle(gathering, self._sender.send)

    def _prepare(self) -> None:
        """Load now, while the ranks still come to their step, what an upload needs."""
        import periflow_sdk.snapshots  # noqa: F401

        self._api()

    @property
    def _interval_seconds(self) -> float:
        return _URGENT_SECONDS if self._is_urgent else _INTERVAL_SECONDS

    def _settle_earlier(self) -> None:
        """Send what earlier attempts left here; no trouble with it may hold up this one's."""
        folders = [each for each in earlier_attempts(self._folder) if is_deserted(each)]
        state = read_json(self._folder / "state.json") or {}
        if folders and state.get("run_dir"):
            self._serve_memory(Path(state["run_dir"]), ended=state.get("phase") == "finishing")
        for folder in folders:
            try:
                Worker(folder, self._api).settle_rest()
                if retire_deserted(folder) is not None:
                    self._tell_unsent(folder)
            except SupersededError:
                raise
            except Exception:
                _log.exception("what %s has left cannot be sent", folder.path)

    def settle_rest(self) -> None:
        """Send what a dead attempt of this node has left whole.

        Raises:
            SupersededError: the living attempt may commit nothing more.
        """
        run_dir = Path((read_json(self._folder / "state.json") or {}).get("run_dir") or "/nowhere")
        progress = read_progress(run_dir)
        states = self._serve_memory(run_dir, ended=True)
        self._read_journal(run_dir)
        if self._ledger.is_gang:
            self._settle_rest_of_gang(progress, states)
            self._leave_behind(run_dir)
            return
        # Without the words of its ranks nobody knows whether a checkpoint is whole.
        whole = [
            gathering
            for gathering in self._ledger.gatherings
            if progress
            and self._ledger.verdict(gathering, progress, ended=True, ended_well=False) == "whole"
        ]
        for gathering in [*self._ledger.kept, *whole]:
            self._settle(gathering, self._sender.send)
        self._leave_behind(run_dir)

    def _settle_rest_of_gang(
        self, progress: Mapping[int, RankProgress], states: MemoryWriter
    ) -> None:
        """Hand in what a dead attempt has left here; the agents of its other nodes do so, too."""
        number = int((read_json(self._folder / "assignment.json") or {})["attempt"])
        self._send_kept(number)
        if progress:  # without the words of its ranks nobody knows how far they came
            look = Look(progress, ended=True, ended_well=self._ended_well())
            self._handed_over().round(look, lambda each: self._is_pending(each, states), 0.0)

    def _leave_behind(self, run_dir: Path) -> None:
        self._save(complete=True)
        remove_unkept(self._folder)

    def _tell_unsent(self, folder: NodeFolder) -> None:
        from periflow_sdk.api.models import AgentEvent

        if (folder / "unsent").exists():
            return
        number = folder.path.parent.name
        message = f"Not all records of attempt {number} were sent: pf job sync {folder.path}"
        self._api().report_event(AgentEvent(kind="warning", message=message))
        (folder / "unsent").touch()

    def _round(self) -> bool:
        """Settle what can be settled now; True when nothing more can come."""
        state = read_json(self._folder / "state.json") or {}
        run_dir = Path(state["run_dir"])
        ended: bool = state["phase"] == "finishing"
        # Before the journal: what a rank recorded before it moved on is then read, too.
        progress = read_progress(run_dir)
        states = self._serve_memory(run_dir, ended=ended)
        self._read_journal(run_dir)
        ended_well = self._ended_well()
        if self._ledger.is_gang:
            look = Look(progress, ended, ended_well)
            pause = _URGENT_REPORT_SECONDS if self._is_urgent else _REPORT_SECONDS
            self._handed_over().round(look, lambda each: self._is_pending(each, states), pause)
            return ended
        for gathering in list(self._ledger.gatherings):
            verdict = self._ledger.verdict(gathering, progress, ended=ended, ended_well=ended_well)
            if verdict == "whole" and not self._is_pending(gathering, states):
                self._settle(gathering, self._sender.send)
            elif verdict == "torn":
                why = self._ledger.why_torn(gathering, progress, ended=ended, ended_well=ended_well)
                self._settle(gathering, refusing(why))
        return ended

    def _ended_well(self) -> bool:
        return (read_json(self._folder / "exit.json") or {}).get("exit_code") == 0

    def _handed_over(self, attempt: int | None = None) -> Handover:
        if self._handover is None:
            self._handover = Handover(self._ledger, self._api, self._hand_in, self._let_go, attempt)
        return self._handover

    def _hand_in(self, gathering: Gathering, why_torn: str) -> None:
        """Upload what this node has of a checkpoint, or note why it cannot."""
        send = refusing(why_torn) if why_torn else self._sender.send
        try:
            if trouble := self._measure(gathering):
                raise trouble
            gathering.snapshot_id = send(gathering)
        except (PeriFlowError, OSError) as error:
            if isinstance(error, SupersededError):
                raise
            _log.error("the checkpoint of step %s failed: %s", gathering.step, error)
            gathering.failure = self._failure(gathering, error)
        self._save()

    def _let_go(self, gathering: Gathering, is_ready: bool) -> None:
        """A checkpoint is settled: what was handed in is in the store."""
        if is_ready:
            note_committed(
                self._folder, id=None, step=gathering.step, save_type=gathering.save_type
            )
        if gathering.snapshot_id:
            for part in gathering.parts:
                remove_staged(self._folder.checkpoint, part)
        self._forget(gathering)

    def _serve_memory(self, run_dir: Path, *, ended: bool) -> MemoryWriter:
        if self._memory is None:
            self._memory = MemoryWriter(
                self._folder.checkpoint,
                run_dir,
                self._interval_seconds,
                self._folder.memory(run_dir),
            )
            self._leases = LeaseKeeper(self._folder.checkpoint, run_dir)
            if not ended:
                self._memory.start()
                self._leases.start()
        if ended:
            self._memory.finish()
            if self._leases is not None:
                self._leases.finish()
        return self._memory

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

    def _settle(self, gathering: Gathering, send: Callable[[Gathering], str]) -> None:
        """Announce a checkpoint, then commit it or say why it failed."""
        from periflow_sdk.api.models import CheckpointCommit, CheckpointStart

        trouble = self._measure(gathering)
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
                if trouble is not None:
                    raise trouble
                commit = CheckpointCommit(snapshot_id=send(gathering))
            except (PeriFlowError, OSError) as error:
                if isinstance(error, SupersededError):
                    raise
                _log.error("the checkpoint of step %s failed: %s", gathering.step, error)
                commit = CheckpointCommit(failure=self._failure(gathering, error))
            known = for_ever(lambda: self._api().commit_checkpoint(gathering.upload_id, commit))
        if known.status == "ready":
            note_committed(self._folder, id=known.id, step=known.step, save_type=known.save_type)
            for part in gathering.parts:
                remove_staged(self._folder.checkpoint, part)
            self._ledger.forget(gathering)
            self._save()
        else:
            self._forget(gathering)

    def _forget(self, gathering: Gathering) -> None:
        if gathering in self._ledger.gatherings:
            self._ledger.gatherings.remove(gathering)
        self._save()

    def _failure(self, gathering: Gathering, error: PeriFlowError | OSError) -> str:
        """Why a checkpoint is not there, and where its files are if it can be sent later."""
        reason = str(error).rstrip(".")[:500]
        if is_final(error):
            return reason
        self._ledger.keep(gathering)
        return f"{reason}; kept in {place_of(self._folder, gathering)}"

    def _is_pending(self, gathering: Gathering, states: MemoryWriter) -> bool:
        """Whether files of a checkpoint are still being written or copied to where it is staged."""
        return any(
            (part.memory and states.is_pending(part.rank, part.memory))
            or (self._leases is not None and self._leases.is_pending(part.upload_id))
            for part in gathering.parts
        )

    def _measure(self, gathering: Gathering) -> PeriFlowError | None:
        """Learn the sizes of files that were made of states in memory; why one was not."""
        try:
            for part in gathering.parts:
                if part.memory:
                    part.files = written_sizes(self._folder.checkpoint, part)
                recover(self._folder.checkpoint, part)
        except (PeriFlowError, OSError) as error:
            if isinstance(error, PeriFlowError):
                return error
            return CheckpointError(f"A file could not be copied: {error}.")
        return None

    def _api(self) -> ApiClient:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _save(self, *, complete: bool = False) -> None:
        document = {
            "offsets": self._offsets,
            "ledger": self._ledger.to_document(),
            "complete": complete,
            "sends_kept": self._sends_kept,
        }
        write_json(self._folder / "worker.json", document)


def run_worker(
    folder: NodeFolder,
    connect: Callable[[], ApiClient],
    supervisor: int,
    *,
    is_urgent: bool = False,
) -> int:
    """The worker process; 0 when all is settled, or nothing more is wanted of it.

    Args:
        connect: Gives a client, when it is needed.
        supervisor: The pid of the process that started it; without that one it leaves.
        is_urgent: The node will be taken: work at normal priority, and look more often.
    """
    be_humble(is_urgent=is_urgent)
    if os.getppid() != supervisor:
        return 0
    try:
        Worker(folder, connect, is_urgent=is_urgent).run()
    except SupersededError as error:
        _log.info("%s", error)
    return 0
