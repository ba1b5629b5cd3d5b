"""How the one step at which every rank saves is decided: a pure rule over the ranks' words.

The decider (the agent on one node, the control plane on several) opens a round with a step S and
calls ``decide()`` at every look. Each answer is a round; writing ``round.control_words()`` to
every rank, in their order and as often as one likes, is all that has to be done with it.

- S only rises, and it never changes once it is committed or aborted.
- It is committed only when every rank has acknowledged the same S and is near it. Having
  acknowledged S, a rank does not go beyond it before it has seen a commit, a higher S or an abort,
  or the deadline has passed.
- Raising S is always safe; it frees the ranks that wait at S. So it also answers what no word
  shows: a rank that cannot acknowledge because it stands in an all-reduce with one that waits.
- A rank stops waiting at the deadline by its own clock. The last commit is therefore made
  ``settle_seconds`` earlier: within that time it has to reach every rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from . import _control as word

Action = Literal["wait", "raise", "commit", "abort"]
Phase = Literal["open", "committed", "aborted"]

_LONG_STEP_SECONDS = 2.0  # from here on a step more costs more than a raise that was in vain
_PATIENCE_SECONDS = 1.0
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class RankWords:
    """The words of one rank's progress, as they were last seen.

    ``step_seconds`` is how long this rank takes for a step, where somebody has measured it.
    """

    started: int
    finished: int
    acknowledged: int
    waiting: int = 0
    is_done: bool = False
    is_alive: bool = True
    step_seconds: float | None = None

    @classmethod
    def of(cls, progress: Sequence[int], *, is_alive: bool = True) -> RankWords:
        """Read a page of progress.

        Args:
            progress: The words of the page, 11 at least.
            is_alive: False if the process of the rank is gone.
        """
        return cls(
            started=progress[word.STARTED],
            finished=progress[word.FINISHED],
            acknowledged=progress[word.ACKNOWLEDGED],
            waiting=progress[word.WAITING],
            is_done=progress[word.STATE] == word.DONE,
            is_alive=is_alive,
        )


@dataclass(frozen=True)
class Round:
    """One attempt to bring every rank to the same step. Plain values: it can be kept as JSON.

    Attributes:
        step: S, the step to save at.
        world_size: The number of ranks that have to agree.
        deadline: When the node is taken, in unix seconds.
        margin_steps: How far ahead of the fastest rank S was set.
        patience_seconds: How long a rank may wait at S for one that started S without seeing it.
        settle_seconds: How long before the deadline a commit is no longer made.
        phase: ``"open"``, ``"committed"`` or ``"aborted"``.
        reason: Why it was aborted.
        stalled_since: Since when a rank waits for such a one, in unix seconds.
    """

    step: int
    world_size: int
    deadline: float
    margin_steps: int = 1
    patience_seconds: float = _PATIENCE_SECONDS
    settle_seconds: float = _SETTLE_SECONDS
    phase: Phase = "open"
    reason: str | None = None
    stalled_since: float | None = None

    def control_words(self) -> tuple[tuple[int, int], ...]:
        """The words of control and their values, to be written to every rank in this order."""
        words = [(word.DEADLINE, int(self.deadline * 1000)), (word.EMERGENCY, self.step)]
        if self.phase == "committed":
            words.append((word.COMMITTED, self.step))
        elif self.phase == "aborted":
            words.append((word.ABORTS, 1))
        return tuple(words)


@dataclass(frozen=True)
class Decision:
    """What follows from a look: the action, and the round as it is now."""

    action: Action
    round: Round


def open_round(
    ranks: Sequence[RankWords],
    *,
    world_size: int,
    deadline: float,
    step_seconds: float | None = None,
    round_trip_seconds: float = 0.05,
) -> Round:
    """Begin a round: S is set so far ahead that every rank hears of it before it is there.

    Args:
        ranks: The ranks that have started so far.
        world_size: The number of ranks there are to be.
        deadline: When the node is taken, in unix seconds.
        step_seconds: How long a step takes; None if it is not known.
        round_trip_seconds: From a rank's word to the decider and back to every rank.
    """
    margin = _margin_steps(step_seconds, round_trip_seconds)
    return Round(
        step=max(1, _fastest(ranks) + margin),
        world_size=world_size,
        deadline=deadline,
        margin_steps=margin,
        patience_seconds=max(_PATIENCE_SECONDS, (step_seconds or 0) / 2, 4 * round_trip_seconds),
        settle_seconds=max(_SETTLE_SECONDS, 2 * round_trip_seconds),
    )


def decide(round: Round, ranks: Sequence[RankWords], now: float) -> Decision:
    """What the words of the ranks ask for. Words may be old: every answer is safe with old ones.

    Args:
        round: The round as the last decision left it.
        ranks: The ranks that have started so far; a rank that has not counts as not agreeing.
        now: Unix seconds.
    """
    if round.phase != "open":
        return Decision("wait", round)
    if reason := _reason_to_abort(round, ranks, now):
        return Decision("abort", replace(round, phase="aborted", reason=reason))
    if any(_is_beyond(rank, round.step) for rank in ranks):
        return _raise(round, ranks)
    if len(ranks) >= round.world_size and all(_is_ready(rank, round, now) for rank in ranks):
        return Decision("commit", replace(round, phase="committed"))
    if not _is_stalled(round.step, ranks):
        return Decision("wait", replace(round, stalled_since=None))
    since = now if round.stalled_since is None else round.stalled_since
    # A long patience must not eat up what is left until the deadline.
    if now - since >= min(round.patience_seconds, (round.deadline - since) / 4):
        return _raise(round, ranks)
    return Decision("wait", replace(round, stalled_since=since))


def abort(round: Round, reason: str) -> Round:
    """Give the round up, if it is still open."""
    return replace(round, phase="aborted", reason=reason) if round.phase == "open" else round


def _reason_to_abort(round: Round, ranks: Sequence[RankWords], now: float) -> str | None:
    if any(not rank.is_alive and not rank.is_done for rank in ranks):
        return "a rank has died"
    if any(rank.is_done for rank in ranks):
        return "a rank has finished"
    if now >= round.deadline - round.settle_seconds:
        return "the deadline came before every rank had agreed"
    return None


def _is_beyond(rank: RankWords, step: int) -> bool:
    """It has passed S, or answered for S already, without having agreed to S."""
    return rank.acknowledged != step and (rank.started > step or rank.acknowledged == -step)


def _is_ready(rank: RankWords, round: Round, now: float) -> bool:
    """It has agreed, and is so near that it will be there in time.

    Coupled ranks are near from the beginning. One that lags far behind may be late for the
    deadline: then none shall save, rather than the quick ones alone. Where the way to the ranks is
    long, the margin is many steps of the quickest one; of a slow one they may take too long.
    """
    seconds = (round.step - rank.started) * (rank.step_seconds or 0.0)
    is_in_time = seconds <= (round.deadline - now) / 2
    return is_in_time and rank.acknowledged == round.step <= rank.started + round.margin_steps + 1


def _is_stalled(step: int, ranks: Sequence[RankWords]) -> bool:
    """One rank waits at S; another one is in S, or behind it, and has not heard of it."""
    return any(rank.waiting == step for rank in ranks) and any(
        rank.started >= step and rank.acknowledged != step for rank in ranks
    )


def _raise(round: Round, ranks: Sequence[RankWords]) -> Decision:
    margin = max(1, 2 * round.margin_steps)  # each time further: it has to end
    step = max(round.step + 1, _fastest(ranks) + margin)
    return Decision("raise", replace(round, step=step, margin_steps=margin, stalled_since=None))


def _fastest(ranks: Sequence[RankWords]) -> int:
    return max((rank.started for rank in ranks), default=0)


def _margin_steps(step_seconds: float | None, round_trip_seconds: float) -> int:
    if not step_seconds or step_seconds <= 0:
        return 1
    if step_seconds >= max(_LONG_STEP_SECONDS, 4 * round_trip_seconds):
        return 0  # at the end of the step being done
    return 1 + math.ceil(2 * round_trip_seconds / step_seconds)
