"""Heartbeats and events: what the control plane is told, and the orders it answers with."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from periflow_sdk.agent.patience import Backoff, check_superseded, is_passing, is_superseded
from periflow_sdk.agent.progress import read_progress
from periflow_sdk.agent.state import StateFile
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import AgentEvent, AgentHeartbeat, AgentOrders
from periflow_sdk.errors import PeriFlowError

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS = 1.0


class Reporter:
    """A thread that tells events in order and a heartbeat each second.

    Args:
        obey: Called with the orders of each heartbeat.
    """

    def __init__(
        self, client: ApiClient, memory: StateFile, obey: Callable[[AgentOrders], None]
    ) -> None:
        self._client = client
        self._memory = memory
        self._obey = obey
        self._events: collections.deque[AgentEvent] = collections.deque()
        self._wake = threading.Event()
        self._leaving = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def tell(self, kind: str, message: str) -> None:
        """Add a line to the job's history."""
        _log.info("%s: %s", kind, message)
        self._events.append(AgentEvent(kind=kind, message=message[:2000]))
        self._wake.set()

    def beat(self) -> None:
        """Send a heartbeat now: the phase has changed."""
        self._wake.set()

    def finish(self) -> None:
        """Tell the last events and the last step, however long it takes, and end."""
        self._leaving = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        backoff = Backoff()
        while True:
            self._wake.clear()
            leaving = self._leaving
            try:
                self._tell_all()
                self._obey(self._client.heartbeat(self._heartbeat()))
                backoff.reset()
                if leaving:
                    return
            except PeriFlowError as error:
                if is_superseded(error):
                    self._obey(AgentOrders(superseded=True))
                    return
                _log.warning("%s; reporting again", error)
                if leaving and not is_passing(error):
                    return  # refused for good: the end is reported without it
                backoff.pause()
                continue
            except Exception as error:
                _log.warning("%s: %s; reporting again", type(error).__name__, error)
                backoff.pause()
                continue
            if not self._events:
                self._wake.wait(_INTERVAL_SECONDS)

    def _tell_all(self) -> None:
        while self._events:
            try:
                self._client.report_event(self._events[0])
            except PeriFlowError as error:
                check_superseded(error)
                if is_passing(error):
                    raise
                _log.error("an event is refused: %s", error)
            self._events.popleft()

    def _heartbeat(self) -> AgentHeartbeat:
        state = self._memory.state
        phase: Literal["preparing", "running", "finishing"] = "preparing"
        if state.phase in ("running", "finishing"):
            phase = "running" if state.phase == "running" else "finishing"
        progress = read_progress(Path(state.run_dir)).values() if state.run_dir else ()
        return AgentHeartbeat(
            phase=phase,
            step=max((p.finished for p in progress), default=None),
            total_steps=max((p.total for p in progress if p.total), default=None),
            notice_age_seconds=self._notice_age(),
        )

    def _notice_age(self) -> float | None:
        state = self._memory.state
        return max(0.0, time.time() - state.noticed_at) if state.notice is not None else None
