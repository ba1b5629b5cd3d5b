"""The node agent: fetches an assignment, runs its command, ships what it leaves, and reports."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

from periflow_sdk import _control as word
from periflow_sdk.agent.decider import Decider, NodeDecider
from periflow_sdk.agent.emergency import Emergency
from periflow_sdk.agent.ending import clean_up, finish_report
from periflow_sdk.agent.endpoint import Endpoint
from periflow_sdk.agent.folder import NodeFolder, read_json, try_lock, write_json
from periflow_sdk.agent.gangdecider import GangDecider
from periflow_sdk.agent.launch import Launcher
from periflow_sdk.agent.observer import Observer
from periflow_sdk.agent.patience import LeavingError, SupersededError, for_ever
from periflow_sdk.agent.progress import read_progress, write_control
from periflow_sdk.agent.reporter import Reporter
from periflow_sdk.agent.rundir import make_run_dir, remove_run_dir, retire_run_dir
from periflow_sdk.agent.shipping import Shipper
from periflow_sdk.agent.sinks.sink import Ending
from periflow_sdk.agent.sinks.supervision import Sinks
from periflow_sdk.agent.state import Notice, Phase, StateFile
from periflow_sdk.agent.training import Exit, Training
from periflow_sdk.agent.workers import WorkerProcess
from periflow_sdk.api.models import AgentOrders, Assignment
from periflow_sdk.errors import PeriFlowError

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.1
_LOCK_SECONDS = 5.0
_GANG_END_SECONDS = 5.0
_ROUND_SECONDS = 3.0
_Heard = tuple[Notice, float | None]


class Supervisor:
    """One node of one attempt, from its assignment to its report.

    Everything it has to remember is in files, so a killed one is simply run again.
    """

    def __init__(self, folder: NodeFolder, endpoint: Endpoint) -> None:
        self._folder = folder
        self._endpoint = endpoint
        self._memory = StateFile(folder / "state.json")
        self._state = self._memory.state
        # One try a call: whoever calls decides whether to go on, and may have to stop meanwhile.
        self._client = endpoint.connect(timeout_seconds=20, tries=1)
        self._reporter = Reporter(self._client, self._memory, self._obey)
        self._sinks = Sinks(folder, self._memory, self._reporter.tell)
        self._shipper = Shipper(
            self._client, folder, self._memory, self._supersede, self._sinks.readers
        )
        self._worker = WorkerProcess(folder)
        self._wake = threading.Event()
        self._heard: _Heard | None = None
        self._superseded = False
        self._gang_ended_at: float | None = None
        self._signals = self._signals_taken = 0

    def run(self) -> int:
        """Do what is left to do; 0 when nothing is."""
        if self._state.phase in ("finished", "superseded"):
            return 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self._run()
        except SupersededError as error:
            _log.info("leaving: %s", error)
            self._superseded = True
        except LeavingError as error:
            _log.info("leaving, to be started again: %s", error)
        if self._superseded:
            self._leave()
        return 0

    def _run(self) -> None:
        assignment = self._assignment()
        run_dir = make_run_dir(assignment, self._folder)
        self._state.run_dir = str(run_dir)
        training = self._training = Training(self._folder, str(run_dir))
        self._emergency = Emergency(
            self._folder, self._memory, training, self._reporter.tell, self._decider(assignment)
        )
        self._grace_seconds = assignment.grace_seconds
        if not training.was_started():
            self._enter("preparing")
            self._reporter.start()
            self._launch(assignment, run_dir)
        else:
            self._reporter.start()
            self._sinks.adopt(assignment)
        end = None
        if training.was_started():
            observer = self._observe(assignment, run_dir)
            end = self._watch()
            observer.stop()
        self._finish(end, run_dir)

    def _decider(self, assignment: Assignment) -> Decider:
        if assignment.num_nodes == 1:
            return NodeDecider()
        # Of its own: while the control plane hangs, nothing else of ours waits for it there.
        client = self._endpoint.connect(timeout_seconds=_ROUND_SECONDS, tries=1)
        return GangDecider(client.advance_round)

    def _observe(self, assignment: Assignment, run_dir: Path) -> Observer:
        shell = assignment.shell
        observer = Observer(
            run_dir,
            self._training.processes,
            python=shell.python,
            variables=shell.variables,
            node=assignment.node_rank,
        )
        observer.report_to(self._client)
        observer.start()
        return observer

    def _assignment(self) -> Assignment:
        kept = read_json(self._folder / "assignment.json")
        if kept is not None:
            return Assignment.model_validate(kept)
        leave = self._is_over
        assignment = for_ever(self._client.assignment, self._wake, leave)
        write_json(self._folder / "assignment.json", assignment.model_dump(mode="json"))
        return assignment

    def _launch(self, assignment: Assignment, run_dir: Path) -> None:
        """Prepare and start the command; why that failed goes into the state."""
        launcher = Launcher(
            self._client, assignment, self._folder, run_dir, self._endpoint, self._reporter.tell
        )
        try:
            started = launcher.launch(self._memory, self._training, self._is_over)
        except SupersededError:
            raise
        except LeavingError:
            started = False
        except Exception as error:
            # Whatever it is, it would be the same at the next start: the job has to hear of it.
            _log.exception("the command was not started")
            if isinstance(error, PeriFlowError):
                self._state.failure = f"{error.message} {error.hint or ''}".strip()
            else:
                self._state.failure = str(error) or type(error).__name__
            return
        if started:
            self._sinks.start(assignment, launcher.credentials)
        else:
            self._listen()

    def _watch(self) -> Exit | None:
        """Stand by until the command has ended; None when this attempt was superseded."""
        self._state.training = self._training.identity()
        self._enter("running")
        self._shipper.start()
        while True:
            end = self._training.poll()
            if end is not None or self._superseded:
                if not self._superseded:
                    self._emergency.conclude()
                return end
            self._listen()
            if self._gang_ended_at is not None:
                self._end_with_gang(self._gang_ended_at)
            elif self._emergency.is_on:
                self._emergency.tend()
            self._worker.tend()
            self._sinks.tend()
            self._wake.wait(self._emergency.pause_seconds or _TICK_SECONDS)
            self._wake.clear()

    def _listen(self) -> None:
        """Take what orders, signals and ranks say of the end."""
        now = time.time()
        if heard := self._heard:
            self._heard = None
            notice, grace_seconds = heard
            self._hear(notice, now, grace_seconds)
        if self._signals > self._signals_taken:
            self._signals_taken = self._signals
            self._hear("preempt", now)
            if self._signals > 1:
                self._emergency.insist()
        if self._gang_ended_at is not None:
            return  # the signals that ranks report now are ours
        if not self._emergency.is_on and (noticed_at := self._emergency.watch()):
            self._hear("preempt", noticed_at)

    def _hear(self, notice: Notice, at: float, grace_seconds: float | None = None) -> None:
        grace = self._grace_seconds if grace_seconds is None else grace_seconds
        if self._emergency.hear(notice, at + grace, at):
            self._worker.hasten()
            self._reporter.beat()

    def _is_told_twice(self) -> bool:
        return self._signals > 1

    def _is_over(self) -> bool:
        return bool(
            self._heard
            or self._superseded
            or self._gang_ended_at is not None
            or self._signals > 0
            or self._state.notice is not None
        )

    def _end_with_gang(self, since: float) -> None:
        """End the command: another node has ended badly, and nothing that is saved now counts."""
        write_control(Path(self._state.run_dir), [(word.ABORTS, 1), (word.STOP, 1)])
        if time.monotonic() - since > _GANG_END_SECONDS:
            self._training.kill()
        else:
            self._training.terminate()

    def _finish(self, end: Exit | None, run_dir: Path) -> None:
        """Ship everything that is left, report the end, and tidy up."""
        if self._superseded:
            return
        if end is not None:
            self._enter("finishing")
            self._shipper.last_call()
            while not (self._shipper.is_done() and self._is_settled()):
                if self._superseded:
                    return
                self._listen()
                self._worker.tend()
                self._wake.wait(_TICK_SECONDS / 2)
                self._wake.clear()
            if not self._take_leave(end):
                return
        self._reporter.finish()
        if self._superseded:
            return
        report = finish_report(self._folder, self._state, end, read_progress(run_dir))
        leave = self._is_told_twice
        for_ever(lambda: self._client.finish_attempt(report), leave=leave)
        self._enter("finished")
        remove_run_dir(run_dir)
        clean_up(self._folder)

    def _take_leave(self, end: Exit) -> bool:
        """Let the sinks finish, within a bounded time; False when this attempt was superseded."""
        state = self._state
        left = max(0.1, state.deadline - time.time()) if state.notice is not None else None
        self._sinks.last_call(Ending(end.exit_code, state.notice == "preempt"), left)
        while not self._sinks.is_done():
            if self._superseded:
                return False
            self._listen()
            self._wake.wait(_TICK_SECONDS / 2)
            self._wake.clear()
        return True

    def _is_settled(self) -> bool:
        """Whether every checkpoint is, or a notice leaves no more time for it."""
        if self._worker.is_complete():
            return True
        is_late = self._state.notice is not None and time.time() >= self._state.deadline
        if is_late:
            _log.error("the grace is over: checkpoints that are not uploaded stay here")
            self._worker.kill()
        return is_late

    def _leave(self) -> None:
        """Another attempt has this work, or none: end the command, commit nothing."""
        self._shipper.abandon()
        self._sinks.abandon()
        self._worker.kill()
        training = getattr(self, "_training", None)
        if training is not None and training.was_started():
            self._end(training)
        self._enter("superseded")
        left = self._retire()
        if left is None:
            clean_up(self._folder)
        else:
            _log.warning("not all records were sent: pf job sync %s", self._folder.path)
            clean_up(self._folder, is_whole=False)

    def _retire(self) -> Path | None:
        try:
            return retire_run_dir(self._folder, self._memory)
        except OSError as error:  # a full disk: better in memory than nowhere
            _log.warning("the run directory stays in memory: %s", error)
            return Path(self._state.run_dir)

    def _end(self, training: Training) -> None:
        """SIGTERM to the command, its grace, SIGKILL: nothing that it saves counts any more."""
        kept = read_json(self._folder / "assignment.json") or {}
        deadline = time.time() + float(kept.get("grace_seconds", 0))
        while training.poll() is None:
            if self._signals > 1 or time.time() >= deadline:
                training.kill()
            else:
                training.terminate()
            time.sleep(_TICK_SECONDS)

    def _enter(self, phase: Phase) -> None:
        with self._memory.lock:
            self._state.phase = phase
        self._memory.save()
        self._reporter.beat()

    def _obey(self, orders: AgentOrders) -> None:
        if orders.superseded:
            self._supersede()
        elif orders.end:
            self._gang_ended_at = self._gang_ended_at or time.monotonic()
            self._wake.set()
        elif orders.stop or orders.preempt:
            self._heard = ("stop" if orders.stop else "preempt", orders.grace_seconds)
            self._wake.set()

    def _supersede(self) -> None:
        self._superseded = True
        self._wake.set()

    def _on_signal(self, number: int, frame: object) -> None:
        # Nothing else: the main thread may hold any lock just now.
        self._signals += 1


def run_supervisor(folder: NodeFolder, endpoint: Endpoint) -> int:
    """The supervisor process; 0 when this node's work is done, 3 when another one does it."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while (lock := try_lock(folder / "agent.lock")) is None:
        if time.monotonic() > deadline:
            _log.error("another agent runs in %s", folder.path)
            return 3
        time.sleep(0.05)
    try:
        return Supervisor(folder, endpoint).run()
    finally:
        os.close(lock)
