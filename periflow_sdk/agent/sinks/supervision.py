"""The sinks of a node: started, listened to, bidden farewell. None is ever waited for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from periflow_sdk.agent.folder import NodeFolder, write_json
from periflow_sdk.agent.sinks.backlog import Backlog
from periflow_sdk.agent.sinks.memory import sink_folder
from periflow_sdk.agent.sinks.process import SinkProcess
from periflow_sdk.agent.sinks.sink import Ending
from periflow_sdk.agent.state import StateFile
from periflow_sdk.api.models import Assignment, JobCredential

FAREWELL_SECONDS = 10.0
_TITLES = {"wandb": "W&B", "tensorboard": "TensorBoard"}


class Sinks:
    """Those that the job's file asks for on this node.

    Args:
        memory: Remembers which of their words were told.
        tell: Adds an event (kind, message).
    """

    def __init__(
        self, folder: NodeFolder, memory: StateFile, tell: Callable[[str, str], None]
    ) -> None:
        self._folder = folder
        self._memory = memory
        self._tell = tell
        self._processes: list[SinkProcess] = []
        self._backlogs: dict[str, Backlog] = {}
        self._deadline: float | None = None

    def start(self, assignment: Assignment, credentials: Iterable[JobCredential]) -> None:
        """Start them: the command is about to run, or runs since just now."""
        self._find(assignment, {each.use: each for each in credentials})
        for process in self._processes:
            process.start()

    def adopt(self, assignment: Assignment) -> None:
        """Go on with those that an agent before this one has started.

        A sink that has died with it has no key any more: it goes on without its service.
        """
        self._find(assignment, {})

    def tend(self) -> None:
        """Tell what they have to say; start again what has died. Call it from one thread."""
        for process in self._living():
            self._tell_words(process)
            if not process.memory.is_over and not process.is_running():
                self._revive(process)

    def readers(
        self, run_dir: Path, others: Sequence[Mapping[str, int]]
    ) -> list[Mapping[str, int]]:
        """How far each has read the journal, or is counted to have: see ``Backlog``."""
        found = []
        for process in self._living():
            memory = process.memory
            if memory.is_over:
                continue
            backlog = self._backlogs.setdefault(process.name, Backlog())
            before = backlog.lost
            found.append(backlog.reached(run_dir, memory.offsets, others))
            if backlog.lost and not before:
                self._tell(
                    "warning",
                    f"{_TITLES[process.name]} is too far behind: it misses records from here on. "
                    "The job's own metrics have them.",
                )
        return found

    def last_call(self, ending: Ending, seconds: float | None = None) -> None:
        """Nothing more will be written.

        Args:
            seconds: What is left until the node is taken; None if it is not.
        """
        if not self._processes:
            return
        self._deadline = time.monotonic() + min(FAREWELL_SECONDS, seconds or FAREWELL_SECONDS)
        write_json(sink_folder(self._folder) / "last-call", asdict(ending))

    def is_done(self) -> bool:
        """Whether all have ended, or had their time after the last call."""
        self.tend()
        for process in self._living():
            if process.memory.is_over and not process.is_running():
                self._leave(process)
            elif self._deadline is not None and time.monotonic() > self._deadline:
                self._cut_off(process)
        return not list(self._living())

    def abandon(self) -> None:
        """End them: this attempt has nothing more to say."""
        for process in self._processes:
            process.kill()
        self._processes = []

    def _find(self, assignment: Assignment, credentials: Mapping[str, JobCredential]) -> None:
        plugin = assignment.spec.plugin
        if plugin.wandb is not None and assignment.node_rank == 0:
            credential = credentials.get("wandb")
            access = {"api_key": None, "url": None, "mode": "offline"}
            if credential is not None:
                key = credential.values["api_key"].get_secret_value()
                access = {"api_key": key, "url": credential.url, "mode": plugin.wandb.mode}
            self._processes.append(SinkProcess(self._folder, "wandb", access))
        if plugin.tensorboard:
            self._processes.append(SinkProcess(self._folder, "tensorboard", None))

    def _living(self) -> Iterable[SinkProcess]:
        over = self._memory.state.sinks_off
        return [process for process in self._processes if process.name not in over]

    def _tell_words(self, process: SinkProcess) -> None:
        told = self._memory.state.sinks_told
        said = process.memory.said
        if len(said) <= told.get(process.name, 0):
            return
        for kind, message in said[told.get(process.name, 0) :]:
            self._tell(kind, message)
        told[process.name] = len(said)
        self._memory.save()

    def _revive(self, process: SinkProcess) -> None:
        again = process.may_start_again()
        if again is False:
            title = _TITLES[process.name]
            self._tell("warning", f"The sink for {title} ends again and again: it is left out.")
            self._leave(process)
        elif again:
            if process.access and process.access["api_key"] is None:
                self._go_offline(process, "The key of W&B went with the agent before this one")
                if process.memory.left:
                    self._tell("sink", f"What W&B does not have yet: {_sync(process)}")
            process.start()

    def _cut_off(self, process: SinkProcess) -> None:
        """It had its time. What W&B did not take is kept for its own tool."""
        title = _TITLES[process.name]
        process.kill()
        memory = process.memory
        can_keep = process.access is not None and process.access["mode"] == "online"
        if memory.is_over:
            pass
        elif memory.left and process.access is not None:
            self._tell(
                "warning",
                f"{title} has not taken everything within {FAREWELL_SECONDS:.0f} s. To send the "
                f"rest: {_sync(process)}",
            )
        elif can_keep and process.access is not None:
            self._go_offline(process, f"{title} did not answer in time")
            self._deadline = time.monotonic() + FAREWELL_SECONDS
            process.start()
            return
        else:
            self._tell("warning", f"{title} has not taken everything that the job reported.")
        self._leave(process)

    def _go_offline(self, process: SinkProcess, reason: str) -> None:
        self._tell("warning", f"{reason}: what it is to get is kept in files.")
        process.access = {"api_key": None, "url": None, "mode": "offline"}

    def _leave(self, process: SinkProcess) -> None:
        lost = self._backlogs.get(process.name, Backlog()).lost
        if lost:
            self._tell("warning", f"{_TITLES[process.name]} missed {lost} records.")
        with self._memory.lock:
            self._memory.state.sinks_off.append(process.name)
        self._memory.save()


def _sync(process: SinkProcess) -> str:
    return f"wandb sync {process.memory.left}"
