"""TensorBoard: event files in the node folder, `tensorboard --logdir` shows them as they grow."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from periflow_sdk.agent.sinks.eventfile import EventFile
from periflow_sdk.agent.sinks.memory import Mark
from periflow_sdk.agent.sinks.reading import Record
from periflow_sdk.agent.sinks.sink import Ending


class TensorboardSink:
    """One folder of event files for rank 0, one below it for each other rank.

    Args:
        folder: Made with its first file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, EventFile] = {}

    def open(self, marks: list[Mark]) -> Mark | None:
        """Go on in the files of the last mark: what was written after it is written again."""
        if not marks:
            return None
        for name, (path, size) in marks[-1].state.items():
            self._files[name] = EventFile(self._folder / path, size)
        return marks[-1]

    def take(self, records: list[Record]) -> None:
        """Write the values of a batch."""
        for record in records:
            if record.kind == "init" and record.rank >= 0:
                self._begin(record)
            for name, value in record.values().items() if record.kind == "metric" else ():
                file = self._file(record)
                file.add(name, value, step=record.step, time=record.time)

    def note_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """TensorBoard has no place for it but a text."""
        text = f"{checkpoint['id'] or 'in parts'} ({checkpoint['save_type']})"
        file = self._open("", time.time())
        file.add("checkpoint", text, step=int(checkpoint["step"]), time=time.time())

    def state(self) -> dict[str, Any]:
        """The size of every file."""
        return {
            name: [str(file.path.relative_to(self._folder)), file.flush()]
            for name, file in self._files.items()
        }

    def address(self) -> str | None:
        """What to type."""
        return f"For TensorBoard on this node: tensorboard --logdir {self._folder}"

    def place(self) -> Path:
        """The folder."""
        return self._folder

    def close(self, ending: Ending) -> str | None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        return None

    def _begin(self, record: Record) -> None:
        """A process that was started again repeats steps; scripts in a row are left as they are."""
        if record.body.get("restart") is True:
            self._file(record).restart(record.time, record.step + 1)

    def _file(self, record: Record) -> EventFile:
        name = f"rank-{record.rank}" if record.rank > 0 else ""
        return self._open(name, record.time)

    def _open(self, name: str, begin: float) -> EventFile:
        if name not in self._files:
            unique = f"events.out.tfevents.{int(begin)}.{socket.gethostname()}.{os.getpid()}"
            self._files[name] = EventFile(self._folder / name / unique)
            self._files[name].begin(begin)
        return self._files[name]
