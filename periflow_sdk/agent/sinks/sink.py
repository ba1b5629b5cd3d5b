"""What every sink can do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from periflow_sdk.agent.sinks.memory import Mark
from periflow_sdk.agent.sinks.reading import Record
from periflow_sdk.errors import PeriFlowError


class SinkRefusedError(PeriFlowError):
    """A sink's service will not take anything of this job: trying again is of no use."""

    default_code = "sink_refused"


class SinkAwayError(PeriFlowError):
    """A sink's service does not answer: trying again may help."""

    default_code = "sink_away"


@dataclass(frozen=True)
class Ending:
    """How the command of the attempt ended; the exit code is None where it is not known."""

    exit_code: int | None = None
    is_preempted: bool = False


class Sink(Protocol):
    """Takes records in batches. None of its methods has to be quick."""

    def open(self, marks: list[Mark]) -> Mark | None:
        """Begin, or go on from one of the marks (oldest first); None where it begins.

        Raises:
            SinkRefusedError: for good.
            SinkAwayError: for now.
        """

    def take(self, records: list[Record]) -> None:
        """Hand a batch on; its records are of one segment, in order."""

    def note_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint is in the store: its ``id``, ``step`` and ``save_type``."""

    def state(self) -> dict[str, Any]:
        """How to go on after what was taken so far, once it is safe from a kill."""

    def address(self) -> str | None:
        """Where people see it, in a sentence."""

    def place(self) -> Path:
        """Where its files are."""

    def close(self, ending: Ending) -> str | None:
        """Nothing more will come; what people should hear of it, if anything."""
