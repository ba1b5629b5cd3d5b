"""Which row of a W&B history a value goes to: rows are numbered, and their numbers only rise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from periflow_sdk.agent.sinks.reading import Record


@dataclass
class Rows:
    """The newest row.

    A row has the number of its training step wherever it can. A value for a step that has passed,
    or a second value of a name, begins a row with the next number.

    Attributes:
        number: The newest row's.
        step: The training step it belongs to.
        names: What it has values of.
    """

    number: int = 0
    step: int = 0
    names: list[str] = field(default_factory=list)

    def place(self, step: int, names: Iterable[str]) -> int:
        """The number of the row for values of these names at this step."""
        names = list(names)
        if step > self.number:
            self.number, self.step, self.names = step, step, names
        elif step == self.step and not set(names) & set(self.names):
            self.names += names
        else:
            self.number, self.step, self.names = self.number + 1, step, names
        return self.number


@dataclass
class Past:
    """What processes that are started again repeat of a rank: it was handed on already.

    Attributes:
        reached: The last step that was handed on, by earlier attempts too.
        floor: The process that writes now repeats what comes up to this step.
        pid: That process; 0 before the first one of an attempt.
    """

    reached: int = 0
    floor: int = 0
    pid: int = 0

    def is_repeated(self, record: Record) -> bool:
        """Whether a record was handed on already. Call it with every record of a rank, in order."""
        if record.pid != self.pid:
            # Scripts that follow one another in a command count anew, and repeat nothing.
            is_first = self.pid == 0
            self.pid = record.pid
            self.floor = self.reached if is_first else 0
        if record.kind == "init" and record.body.get("restart") is True:
            self.floor = self.reached
        if record.kind != "metric":
            return False
        if record.step <= self.floor:
            return True
        self.reached = max(self.reached, record.step)
        return False
