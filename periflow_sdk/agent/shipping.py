"""Journal and log on their way to the control plane, by offset: nothing lost, nothing twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from periflow_sdk.agent.folder import NodeFolder, read_json
from periflow_sdk.agent.journal import (
    LONGEST_LINE,
    Segment,
    remove_read,
    segments,
    system_segments,
)
from periflow_sdk.agent.patience import Backoff, SupersededError, check_superseded, is_passing
from periflow_sdk.agent.state import StateFile
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import ConflictError, PeriFlowError

_log = logging.getLogger(__name__)
Offsets = Sequence[Mapping[str, int]]
BATCH_BYTES = 1024 * 1024
_INTERVAL_SECONDS = 0.2
# Each batch costs the server a transaction; people wait for lines more eagerly than for points.
_JOURNAL_SECONDS = 0.5
_SAVE_SECONDS = 1.0
_REMOVE_SECONDS = 5.0


class Shipper:
    """A thread that sends what is new, until it is told that no more will come.

    Args:
        superseded: Called once when the control plane refuses this attempt.
        sinks: How far each sink has read the journal, given how far everybody else has.
    """

    def __init__(
        self,
        client: ApiClient,
        folder: NodeFolder,
        memory: StateFile,
        superseded: Callable[[], None],
        sinks: Callable[[Path, Offsets], Offsets] = lambda run_dir, others: [],
    ) -> None:
        self._client = client
        self._folder = folder
        self._memory = memory
        self._superseded = superseded
        self._sinks = sinks
        self._last_call = threading.Event()
        self._leave = threading.Event()
        self._refused: set[str] = set()
        self._is_all_accepted = False
        self._saved = self._removed = self._journal_due = 0.0
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()

    def last_call(self) -> None:
        """Nothing more will be written: ship what is there, then end."""
        self._last_call.set()

    def is_done(self) -> bool:
        """Whether everything has been accepted."""
        return self._is_all_accepted

    def abandon(self) -> None:
        """Leave what is not shipped."""
        self._leave.set()
        self._last_call.set()

    def _run(self) -> None:
        backoff = Backoff(self._leave)
        while not self._leave.is_set():
            # Asked before reading: what is written until then is read in this round.
            last = self._last_call.is_set()
            try:
                shipped = self._ship(last)
                backoff.reset()
            except SupersededError:
                self._superseded()
                return
            except Exception as error:
                # A full disk or a strange answer passes; a thread that ended here would lose data.
                _log.warning("%s: %s; shipping again", type(error).__name__, error)
                backoff.pause()
                continue
            if shipped:
                continue
            if last:
                self._is_all_accepted = True
                return
            self._last_call.wait(_INTERVAL_SECONDS)

    def _ship(self, last: bool) -> bool:
        """One round; whether anything was accepted."""
        shipped = self._ship_log()
        if last or time.monotonic() >= self._journal_due:
            shipped |= self._ship_journal()
        self._remember(force=last)
        return shipped

    def _ship_log(self) -> bool:
        state = self._memory.state
        try:
            with self._folder.output.open("rb") as file:
                file.seek(state.log_offset)
                data = file.read(BATCH_BYTES)
        except FileNotFoundError:
            return False
        if not data or "log" in self._refused:
            return False
        offset = state.log_offset
        accepted = self._send("log", lambda: self._client.ship_log(offset, data))
        if accepted is None or accepted == offset:
            return False
        with self._memory.lock:
            state.log_offset = accepted
        return True

    def _ship_journal(self) -> bool:
        shipped = behind = False
        run_dir = self._run_dir()
        for segment in (*segments(run_dir), *system_segments(run_dir)):
            if segment.key not in self._refused:
                accepted = self._ship_segment(segment)
                shipped |= accepted > 0
                behind |= accepted >= BATCH_BYTES // 2
        if not behind:
            self._journal_due = time.monotonic() + _JOURNAL_SECONDS
        return shipped

    def _ship_segment(self, segment: Segment) -> int:
        """How many bytes the server has more than before."""
        offsets = self._memory.state.journal_offsets
        offset = offsets.get(segment.key, 0)
        if segment.size <= offset:
            return 0
        lines = segment.read_lines(offset, BATCH_BYTES)
        if not lines:
            if segment.size - offset > LONGEST_LINE:
                _log.error("a record of %s is too long: the rest is set aside", segment.key)
                self._refused.add(segment.key)
            return 0
        accepted = self._send(
            segment.key,
            lambda: self._client.ship_journal(segment.rank, segment.name, offset, lines),
        )
        if accepted is None or accepted == offset:
            return 0
        with self._memory.lock:
            offsets[segment.key] = accepted
        return abs(accepted - offset)

    def _send(self, key: str, call: Callable[[], int]) -> int | None:
        """The next offset wanted; None when what was sent is refused for good and set aside."""
        try:
            return call()
        except PeriFlowError as error:
            check_superseded(error)
            if isinstance(error, ConflictError) and isinstance(error.data.get("offset"), int):
                return int(error.data["offset"])
            if is_passing(error):
                raise
            _log.error("the rest of %s is refused and set aside: %s", key, error)
            self._refused.add(key)
            return None

    def _remember(self, *, force: bool) -> None:
        now = time.monotonic()
        if now - self._removed > _REMOVE_SECONDS:
            self._removed = now
            worker = (read_json(self._folder / "worker.json") or {}).get("offsets", {})
            offsets = self._memory.state.journal_offsets
            readers: Offsets = [offsets, worker]
            readers = [*readers, *self._sinks(self._run_dir(), readers)]
            for key in remove_read(self._run_dir(), readers):
                with self._memory.lock:
                    offsets.pop(key, None)
        if force or now - self._saved > _SAVE_SECONDS:
            self._saved = now
            self._memory.save()

    def _run_dir(self) -> Path:
        return Path(self._memory.state.run_dir)
