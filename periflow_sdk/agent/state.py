"""What the supervisor remembers, so that a killed one goes on where it was."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from periflow_sdk.agent.folder import read_json, write_json

Phase = Literal["new", "preparing", "running", "finishing", "finished", "superseded"]
Notice = Literal["stop", "preempt"]


@dataclass
class State:
    """The supervisor's memory.

    Attributes:
        phase: How far this node is.
        run_dir: The run directory (PERIFLOW_RUN_DIR).
        port: The port registered for MASTER_PORT.
        restored: Name below the checkpoint folder of what was restored ("" = the folder itself).
        runtime: How the command is run.
        training: What training.json said.
        log_offset: Bytes of output.log that the server has.
        journal_offsets: The same for each "<rank>/<segment>".
        notice: What the training is to end for; None while it is not.
        noticed_at: When that was said, in unix seconds.
        deadline: Unix seconds after which the training is killed.
        round: The emergency round (see periflow_sdk._emergency.Round); None without one.
        terminated_at: When the agent began to end the training, in unix seconds; 0 = not.
        ending: Why it did.
        failure: Why the command never ran.
        sinks_told: How many words of each sink the control plane has.
        sinks_off: Sinks that nobody waits for any more.
    """

    phase: Phase = "new"
    run_dir: str = ""
    port: int = 0
    restored: str | None = None
    runtime: str = ""
    training: dict[str, float | str] | None = None
    log_offset: int = 0
    journal_offsets: dict[str, int] = field(default_factory=dict)
    notice: Notice | None = None
    noticed_at: float = 0.0
    deadline: float = 0.0
    round: dict[str, Any] | None = None
    terminated_at: float = 0.0
    ending: str = ""
    failure: str | None = None
    sinks_told: dict[str, int] = field(default_factory=dict)
    sinks_off: list[str] = field(default_factory=list)


class StateFile:
    """State kept in a file. Threads change it under ``lock`` and call ``save``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lock = threading.RLock()
        known = {item.name for item in fields(State)}
        document = read_json(path) or {}
        self.state = State(**{name: document[name] for name in known & document.keys()})

    def save(self) -> None:
        """Write the state; a reader sees the old one or the new one, whole."""
        with self.lock:
            write_json(self._path, asdict(self.state))
