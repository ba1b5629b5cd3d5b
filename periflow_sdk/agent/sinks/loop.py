"""A sink at work: from the journal to its service, until the agent says that nothing more comes."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from periflow_sdk.agent.committed import committed_after
from periflow_sdk.agent.folder import NodeFolder, read_json
from periflow_sdk.agent.kept import is_deserted
from periflow_sdk.agent.patience import Backoff
from periflow_sdk.agent.sinks.memory import Mark, SinkMemory, sink_folder
from periflow_sdk.agent.sinks.reading import BATCH_BYTES, read_batches
from periflow_sdk.agent.sinks.sink import Ending, Sink, SinkAwayError, SinkRefusedError

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS = 0.5
_SAVE_SECONDS = 1.0
_DESERTED_SECONDS = 60.0
CHECKPOINTS = "checkpoints"
"""The offset in `committed.jsonl`, among those of the segments."""


class SinkLoop:
    """Drives one sink. Its memory is written after what it tells of was handed on."""

    def __init__(self, folder: NodeFolder, name: str, sink: Sink) -> None:
        self._folder = folder
        self._name = name
        self._sink = sink
        self._memory = SinkMemory.read(folder, name)
        self._offsets: dict[str, int] = {}
        self._is_open = False
        self._saved = 0.0
        self._is_saved = True
        self._deserted_since: float | None = None

    def run(self) -> None:
        """Work until all is handed on, or the sink gives up."""
        try:
            if self._open():
                self._follow()
        except SinkRefusedError as error:
            self._give_up(str(error))
        self._save()

    def _open(self) -> bool:
        """Open the sink, however often that takes; False when nobody waits for it any more."""
        backoff = Backoff()
        while True:
            try:
                mark = self._sink.open(self._memory.marks)
            except SinkAwayError as error:
                _log.warning("%s; trying again", error)
                if not any("does not answer" in words for _, words in self._memory.said):
                    self._memory.say("warning", f"{error}; it is tried again.")
                    self._save()
            else:
                self._go_on_from(mark)
                self._memory.left = str(self._sink.place())
                if (word := self._sink.address()) is not None:
                    self._memory.say("sink", word)
                self._save()
                return True
            if self._is_deserted():
                return False
            backoff.pause()

    def _go_on_from(self, mark: Mark | None) -> None:
        """Whatever was handed on after the mark is handed on again."""
        self._offsets = dict(mark.offsets) if mark is not None else {}
        kept = self._memory.marks
        self._memory.marks = kept[: kept.index(mark) + 1] if mark is not None else []
        self._is_open = True

    def _follow(self) -> None:
        while True:
            # Asked before reading: what is written until then is read in this round.
            ending = self._ending()
            found = self._hand_on()
            if found and (ending is not None or found >= BATCH_BYTES // 2):
                continue
            if not found and (ending is not None or self._is_deserted()):
                word = self._sink.close(ending or Ending())
                if word:
                    self._memory.say("sink", word)
                self._memory.is_complete = ending is not None
                return
            time.sleep(_INTERVAL_SECONDS)

    def _hand_on(self) -> int:
        """One round; how many bytes there were."""
        found = 0
        offsets = self._offsets
        for records in read_batches(self._run_dir(), offsets):
            self._sink.take(records)
            found += records[-1].end - offsets.get(records[-1].segment, 0)
            offsets[records[-1].segment] = records[-1].end
        found += self._hand_on_checkpoints()
        self._is_saved &= not found
        if not self._is_saved and (not found or time.monotonic() - self._saved > _SAVE_SECONDS):
            self._save()
        return found

    def _hand_on_checkpoints(self) -> int:
        before = offset = self._offsets.get(CHECKPOINTS, 0)
        for size, checkpoint in committed_after(self._folder, offset):
            self._sink.note_checkpoint(checkpoint)
            offset += size
        self._offsets[CHECKPOINTS] = offset
        return offset - before

    def _save(self) -> None:
        if self._is_open:
            self._memory.remember(Mark(time.time(), dict(self._offsets), self._sink.state()))
        self._memory.save(self._folder, self._name)
        self._saved = time.monotonic()
        self._is_saved = True

    def _give_up(self, reason: str) -> None:
        self._memory.say("warning", f"{reason}. The job goes on without it.")
        self._memory.is_off = True

    def _run_dir(self) -> Path:
        return Path((read_json(self._folder / "state.json") or {}).get("run_dir") or "/nonexistent")

    def _ending(self) -> Ending | None:
        document = read_json(sink_folder(self._folder) / "last-call")
        return Ending(**document) if document is not None else None

    def _is_deserted(self) -> bool:
        """Whether neither agent nor command came back for a minute."""
        now = time.monotonic()
        if not is_deserted(self._folder):
            self._deserted_since = None
        elif self._deserted_since is None:
            self._deserted_since = now
        return self._deserted_since is not None and now - self._deserted_since > _DESERTED_SECONDS
