"""`python -m periflow_sdk.agent.attached FOLDER`: the agent beside a run that nobody submitted."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from periflow_sdk import _control as word
from periflow_sdk.agent.delivery import Delivery
from periflow_sdk.agent.enrollment import enroll, note_job
from periflow_sdk.agent.folder import NodeFolder, try_lock, write_json
from periflow_sdk.agent.notice import Notice
from periflow_sdk.agent.observer import Observer
from periflow_sdk.agent.patience import Backoff, is_passing
from periflow_sdk.agent.progress import finished_early, read_progress, write_control
from periflow_sdk.agent.pruning import prune_runs, release_run
from periflow_sdk.agent.ranks import LocalRanks, Verdict
from periflow_sdk.agent.state import Phase, StateFile
from periflow_sdk.agent.workers import WorkerProcess
from periflow_sdk.api.models import AgentFinish, AttachedJob
from periflow_sdk.environment import home
from periflow_sdk.errors import PeriFlowError

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.1
_PATIENCE_SECONDS = 30.0
_NOTICE_SECONDS = 10.0
_STOP_SECONDS = 30.0
GONE = "the process ended without finishing"


class AttachedAgent:
    """Follows the ranks of a run, sends what they leave, and goes when all of it is there.

    When the control plane stays away after the ranks have ended, the folder keeps everything for
    ``pf job sync``.
    """

    def __init__(self, folder: NodeFolder, notice: Notice) -> None:
        self._folder = folder
        self._notice = notice
        self._about = folder.attached or {}
        self._memory = StateFile(folder / "state.json")
        self._memory.state.run_dir = str(folder / "run")
        self._ranks = LocalRanks(folder / "run", int(self._about["num_ranks"]))
        self._observer = Observer(
            folder / "run",
            self._ranks.processes,
            python=sys.executable,
            variables=dict(os.environ),
            code=Path(self._about["cwd"]),
        )
        self._worker = WorkerProcess(folder)
        self._delivery: Delivery | None = None
        self._granted: list[tuple[str, AttachedJob]] = []
        self._refusal: PeriFlowError | None = None
        self._asking: threading.Thread | None = None
        self._leave = threading.Event()
        self._began = time.monotonic()
        self._has_failed = False
        self._is_stopping = False

    def run(self) -> int:
        """0 when everything is sent, 1 when something was left for `pf job sync`."""
        signal.signal(signal.SIGTERM, lambda *_: self._leave.set())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._enter("running")
        self._observer.start()
        self._ask()
        while (verdict := self._ranks.poll()) == "running" and not self._leave.is_set():
            self._tend()
            if time.monotonic() - self._began > _NOTICE_SECONDS:
                self._notice.say(self._absence())
            self._leave.wait(_TICK_SECONDS)
        self._observer.stop()
        done = not self._leave.is_set() and self._send_rest(verdict)
        self._notice.say(self._absence())
        if not done:
            if self._delivery is not None:
                self._delivery.abandon()
            self._worker.kill()
        release_run(self._folder, self._memory.state)
        return 0 if done else 1

    def _tend(self) -> None:
        """Take what the control plane has answered meanwhile, and obey it."""
        self._worker.tend()  # it serves the ranks before there is anybody to send to
        if self._granted:
            self._begin(*self._granted.pop())
        delivery = self._delivery
        if delivery is None:
            return
        if delivery.is_superseded and self._asking is None:
            delivery.abandon()
            self._delivery = None
            self._ask()
        elif delivery.stop_ordered and not self._is_stopping:
            self._is_stopping = True
            deadline = int((time.time() + _STOP_SECONDS) * 1000)
            write_control(self._folder / "run", [(word.DEADLINE, deadline), (word.STOP, 1)])

    def _begin(self, url: str, grant: AttachedJob) -> None:
        self._asking = self._refusal = None
        note_job(self._folder, url, self._about["project"]["id"], grant)
        self._notice.say(
            f"this run is job {grant.job.number} ({grant.job.name}): pf job view {grant.job.number}"
        )
        self._delivery = Delivery(self._folder, self._memory, url, grant.token, self._worker)
        self._delivery.start()
        self._observer.report_to(self._delivery.client)

    def _send_rest(self, verdict: Verdict) -> bool:
        """Send what is left, as long as somebody takes it; whether all of it was taken."""
        write_json(self._folder / "exit.json", {"exit_code": 0 if verdict == "finished" else None})
        self._enter("finishing")
        report = self._report(verdict)
        last_word = time.monotonic()
        while not self._leave.is_set():
            self._tend()
            delivery = self._delivery
            if delivery is not None:
                last_word = max(last_word, delivery.heard_at)
                delivery.last_call()
                if delivery.is_done() and delivery.finish(report):
                    self._enter("finished")
                    return True
            elif self._has_failed or time.monotonic() - self._began > _NOTICE_SECONDS:
                # Whoever reads the script's stderr to its end waits no longer for ours.
                self._notice.say(self._absence())
            if self._refusal is not None or time.monotonic() - last_word > _PATIENCE_SECONDS:
                return False
            self._leave.wait(_TICK_SECONDS)
        return False

    def _report(self, verdict: Verdict) -> AgentFinish:
        if self._is_stopping:
            return AgentFinish(outcome="stopped")
        if verdict == "finished":
            is_early = finished_early(read_progress(self._folder / "run").values())
            return AgentFinish(outcome="exited", exit_code=0, finished_early=is_early)
        return AgentFinish(outcome="error", reason=GONE)

    def _enter(self, phase: Phase) -> None:
        with self._memory.lock:
            self._memory.state.phase = phase
        self._memory.save()

    def _absence(self) -> str:
        reason = f" ({self._refusal.message.rstrip('.')})" if self._refusal else ""
        return (
            f"the control plane has not taken this run yet{reason}; everything is kept. "
            f"If it ends so: pf job sync {self._folder.path}"
        )

    def _ask(self) -> None:
        """Ask for the run's job until there is an answer, beside everything else."""
        self._asking = threading.Thread(target=self._ask_on, name="enrollment", daemon=True)
        self._asking.start()

    def _ask_on(self) -> None:
        backoff = Backoff(self._leave)
        while not self._leave.is_set():
            try:
                self._granted.append(enroll(home(), self._folder, self._about))
                return
            except PeriFlowError as error:
                _log.warning("%s", error)
                self._has_failed = True
                if not is_passing(error):
                    self._refusal = error
                    self._notice.say(self._absence())
                    if error.code != "login_required":  # that one may be made good meanwhile
                        return
            backoff.pause()


def main(arguments: list[str]) -> int:
    """Run the agent of an attached run; the exit code."""
    folder = NodeFolder.open(Path(arguments[0]))
    notice = Notice.take_over(folder / "agent.log")
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    logging.basicConfig(format="%(asctime)s [%(process)d] %(levelname)s %(message)s", level=20)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    lock = try_lock(folder / "agent.lock")
    if lock is None:
        _log.error("another agent runs in %s", folder.path)
        return 3
    write_json(folder / "agent.json", {"pid": os.getpid(), "start_time": time.time()})
    try:
        return AttachedAgent(folder, notice).run()
    finally:
        notice.close()
        os.close(lock)
        with contextlib.suppress(OSError):
            prune_runs(folder.path.parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
