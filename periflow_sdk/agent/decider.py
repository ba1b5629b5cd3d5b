"""Who decides at which step the ranks of a node save: the node itself, where it is the only one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from periflow_sdk._emergency import Round, decide, open_round
from periflow_sdk.agent.progress import RankProgress, expected_ranks
from periflow_sdk.agent.state import State

_LATE_RANKS_SECONDS = 3.0


class Decider(Protocol):
    """Decides the emergency round of an attempt."""

    def watch(self, progress: Mapping[int, RankProgress], now: float) -> None:
        """See how fast the ranks are, while all is well."""

    def next(
        self,
        current: Round | None,
        state: State,
        progress: Mapping[int, RankProgress],
        step_seconds: float | None,
        now: float,
    ) -> Round | None:
        """The round after this look; None while there is none.

        Args:
            current: The round as it was.
            state: What was heard of the notice; a nearer deadline is put into it.
            progress: The words of this node's ranks.
            step_seconds: How long a step takes, if that is known.
            now: Unix seconds.
        """

    def may_open(self, state: State, ranks: Iterable[RankProgress], now: float) -> bool:
        """Whether a round is to be expected, while there is none."""

    def conclude(self, state: State) -> bool:
        """The command has ended: ask once more how the round stands; False: nobody is asked."""


class NodeDecider:
    """The agent itself decides: its ranks are all there are."""

    def watch(self, progress: Mapping[int, RankProgress], now: float) -> None:
        """See Decider."""

    def next(
        self,
        current: Round | None,
        state: State,
        progress: Mapping[int, RankProgress],
        step_seconds: float | None,
        now: float,
    ) -> Round | None:
        """See Decider."""
        current = current or self._open(state, progress, step_seconds, now)
        if current is None:
            return None
        if current.deadline != state.deadline:
            current = replace(current, deadline=state.deadline)
        return decide(current, [rank.seen() for rank in progress.values()], now).round

    def may_open(self, state: State, ranks: Iterable[RankProgress], now: float) -> bool:
        """See Decider."""
        return takes_part(ranks)

    def conclude(self, state: State) -> bool:
        """See Decider."""
        return False

    def _open(
        self,
        state: State,
        progress: Mapping[int, RankProgress],
        step_seconds: float | None,
        now: float,
    ) -> Round | None:
        """The round's beginning, once every rank is there or is no longer waited for."""
        if not takes_part(progress.values()):
            return None
        patience = min(_LATE_RANKS_SECONDS, (state.deadline - now) / 4)
        is_late = now >= state.noticed_at + patience
        if len(progress) < expected_ranks(progress.values()) and not is_late:
            return None
        return open_round(
            [rank.seen() for rank in progress.values()],
            world_size=len(progress),
            deadline=state.deadline,
            step_seconds=step_seconds,
        )


def takes_part(ranks: Iterable[RankProgress]) -> bool:
    """Whether some rank is between its first step and its end."""
    return any(rank.has_begun and not rank.is_done and rank.is_alive() for rank in ranks)
