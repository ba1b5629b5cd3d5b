"""What a sink remembers, and says to its agent: `sinks/<name>.json` in the node folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from periflow_sdk.agent.folder import NodeFolder, read_json, write_json

_KEEP_SECONDS = 60.0


@dataclass(frozen=True)
class Mark:
    """A place to go on from.

    Attributes:
        at: When it was made, in unix seconds.
        offsets: Bytes of each segment ("<rank>/<segment>") that were handed on.
        state: What the sink needs to go on after them without repeating anything.
    """

    at: float
    offsets: dict[str, int]
    state: dict[str, Any]


@dataclass
class SinkMemory:
    """A sink's memory.

    Attributes:
        marks: The newest ones, the last one last: a service may turn out to have less than it was
            given when its client is killed.
        said: Events for the job, (kind, message) each, in order.
        is_complete: Everything was handed on.
        is_off: It has given up, and reads nothing more.
        left: A folder with what was not sent, for its service's own tool.
    """

    marks: list[Mark] = field(default_factory=list)
    said: list[list[str]] = field(default_factory=list)
    is_complete: bool = False
    is_off: bool = False
    left: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it does nothing more."""
        return self.is_complete or self.is_off

    @classmethod
    def read(cls, folder: NodeFolder, name: str) -> SinkMemory:
        """The memory of a sink; an empty one where it has none yet."""
        document = read_json(memory_path(folder, name)) or {}
        known = {each.name for each in fields(cls)} & document.keys()
        memory = cls(**{each: document[each] for each in known})
        memory.marks = [Mark(**mark) for mark in document.get("marks", [])]
        return memory

    @property
    def offsets(self) -> dict[str, int]:
        """How much of each segment will not be read again."""
        return self.marks[0].offsets if self.marks else {}

    def remember(self, mark: Mark) -> None:
        """Add a mark; of those that are old, only the newest is kept."""
        while len(self.marks) > 1 and self.marks[1].at < mark.at - _KEEP_SECONDS:
            del self.marks[0]
        self.marks.append(mark)

    def save(self, folder: NodeFolder, name: str) -> None:
        """Write it; a reader sees the old one or the new one, whole."""
        write_json(memory_path(folder, name), asdict(self))

    def say(self, kind: str, message: str) -> None:
        """An event for the job; the same one is said once."""
        if [kind, message] not in self.said:
            self.said.append([kind, message])


def sink_folder(folder: NodeFolder) -> Path:
    """Where sinks keep what is theirs."""
    return folder / "sinks"


def memory_path(folder: NodeFolder, name: str) -> Path:
    """The file of a sink's memory."""
    return sink_folder(folder) / f"{name}.json"
