"""Where there are several nodes, the control plane decides: it is asked as fast as it answers."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk._emergency import Round, abort
from periflow_sdk.agent.decider import takes_part
from periflow_sdk.agent.pace import Pace
from periflow_sdk.agent.patience import is_superseded
from periflow_sdk.agent.progress import RankProgress, expected_ranks, read_progress
from periflow_sdk.agent.state import State
from periflow_sdk.errors import PeriFlowError

if TYPE_CHECKING:
    from periflow_sdk.api.models import RankReport, RoundAnswer, RoundReport

_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.02
_PAUSE_AFTER_FAILURE_SECONDS = 0.1
_LOOK_SECONDS = 0.015
_LAST_SECONDS = 0.25
_JITTER_SECONDS = 0.05
_PATIENCE = 0.5  # a node without ranks in a step waits for others so much of its grace


@dataclass(frozen=True)
class _Heard:
    """An answer, and when its node goes by this node's clock."""

    answer: RoundAnswer
    deadline: float


class GangDecider:
    """Sends this node's words as often as it can, and hands on what is answered.

    Without an answer nothing is decided: at the deadline the round is aborted.

    Args:
        ask: Sends words once and gives the answer; called by a thread of its own.
    """

    def __init__(self, ask: Callable[[RoundReport], RoundAnswer]) -> None:
        self._ask = ask
        self._heard: _Heard | None = None
        self._step_seconds: float | None = None
        self._trips: collections.deque[float] = collections.deque(maxlen=8)
        self._paces: dict[int, Pace] = {}
        self._expected = (0, 0)
        self._thread: threading.Thread | None = None
        self._is_over = False

    def watch(self, progress: Mapping[int, RankProgress], now: float) -> None:
        """See Decider."""
        for rank, words in progress.items():
            self._paces.setdefault(rank, Pace()).note(words.finished, now)

    def next(
        self,
        current: Round | None,
        state: State,
        progress: Mapping[int, RankProgress],
        step_seconds: float | None,
        now: float,
    ) -> Round | None:
        """See Decider."""
        if current is not None and current.phase != "open":
            return current
        self._step_seconds = step_seconds
        self._begin(state)
        heard = self._heard
        if heard is not None:
            if heard.deadline < state.deadline - _JITTER_SECONDS:
                state.deadline = heard.deadline
            current = _round(heard.answer, state.deadline) or current
        if current is not None and current.phase != "open":
            return current
        if now >= state.deadline - _LAST_SECONDS and (current or takes_part(progress.values())):
            started = max((rank.started for rank in progress.values()), default=0)
            self._is_over = True
            last = current or Round(started + 1, len(progress) + 1, state.deadline)
            return abort(last, "the control plane did not decide before the deadline")
        return current

    def may_open(self, state: State, ranks: Iterable[RankProgress], now: float) -> bool:
        """See Decider."""
        if takes_part(ranks):
            return True
        known = self._heard.answer.takes_part if self._heard else None
        if known is None:
            return now < state.noticed_at + _PATIENCE * (state.deadline - state.noticed_at)
        return known

    def conclude(self, state: State) -> bool:
        """See Decider. Another node may have heard of a round that this one had no time to."""
        try:
            answer = self._ask(self._report(Path(state.run_dir), state.noticed_at))
        except Exception as error:
            _log.warning("%s; how the round stands is not known", error)
            return False
        self._heard = _Heard(answer, time.time() + answer.seconds_left)
        return True

    def _begin(self, state: State) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(state,), name="round", daemon=True
            )
            self._thread.start()

    def _run(self, state: State) -> None:
        """Ask until the round is decided, or nobody here may ask any more."""
        is_first = True
        while not self._is_over:
            report = self._report(Path(state.run_dir), state.noticed_at)
            began = time.monotonic()
            try:
                answer = self._ask(report)
            except Exception as error:
                if isinstance(error, PeriFlowError) and is_superseded(error):
                    return
                _log.warning("%s; asking again", error)
                time.sleep(_PAUSE_AFTER_FAILURE_SECONDS)
                continue
            took = time.monotonic() - began
            self._heard = _Heard(answer, time.time() + answer.seconds_left)
            if answer.round is not None and answer.round.phase != "open":
                return
            if not is_first:  # the first one had to connect
                self._trips.append(2 * (took + _PAUSE_SECONDS) + _LOOK_SECONDS)
            is_first = False
            time.sleep(_PAUSE_SECONDS)

    def _report(self, run_dir: Path, noticed_at: float) -> RoundReport:
        from periflow_sdk.api.models import RoundReport

        progress = read_progress(run_dir)
        self.watch(progress, time.time())
        if self._expected[0] != len(progress):
            self._expected = (len(progress), expected_ranks(progress.values()))
        return RoundReport(
            ranks=[
                _words(words, self._paces[rank].step_seconds()) for rank, words in progress.items()
            ],
            expected=self._expected[1],
            notice_age_seconds=max(0.0, time.time() - noticed_at),
            step_seconds=self._step_seconds,
            round_trip_seconds=max(self._trips, default=None),
        )


def _words(rank: RankProgress, step_seconds: float | None) -> RankReport:
    from periflow_sdk.api.models import RankReport

    seen = rank.seen()
    return RankReport(
        started=seen.started,
        finished=seen.finished,
        acknowledged=seen.acknowledged,
        waiting=seen.waiting,
        has_begun=rank.has_begun,
        is_done=seen.is_done,
        is_alive=seen.is_alive,
        step_seconds=step_seconds,
    )


def _round(answer: RoundAnswer, deadline: float) -> Round | None:
    if answer.round is None:
        return None
    return replace(Round(**answer.round.model_dump(), deadline=deadline), stalled_since=None)
