"""What the decider makes of the ranks' words."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from periflow_sdk import _control as word
from periflow_sdk._emergency import RankWords, Round, decide, open_round

NOW = 1000.0
ROUND = Round(step=10, world_size=2, deadline=NOW + 30)
AGREED = RankWords(started=9, finished=8, acknowledged=10)
UNAWARE = RankWords(started=9, finished=8, acknowledged=0)


def test_commit_needs_every_rank() -> None:
    assert decide(ROUND, [AGREED, AGREED], NOW).action == "commit"
    assert decide(ROUND, [AGREED, UNAWARE], NOW).action == "wait"
    assert decide(ROUND, [AGREED], NOW).action == "wait"
    assert decide(ROUND, [], NOW).action == "wait"


def test_rank_that_cannot_be_there_in_time_is_not_ready() -> None:
    far = replace(ROUND, margin_steps=40)
    slow = RankWords(started=1, finished=0, acknowledged=10, step_seconds=2.0)
    assert decide(far, [AGREED, slow], NOW).action == "wait"
    assert decide(far, [AGREED, replace(slow, step_seconds=1.0)], NOW).action == "commit"


def test_agreement_to_an_earlier_step_does_not_count() -> None:
    earlier = replace(AGREED, acknowledged=8)
    assert decide(ROUND, [AGREED, earlier], NOW).action == "wait"


def test_rank_beyond_raises_the_step_above_every_rank() -> None:
    beyond = RankWords(started=14, finished=13, acknowledged=0)
    decision = decide(ROUND, [AGREED, beyond], NOW)
    assert decision.action == "raise" and decision.round.step > 14
    assert decision.round.margin_steps > ROUND.margin_steps


def test_rank_that_refuses_raises_the_step() -> None:
    refusing = RankWords(started=10, finished=10, acknowledged=-10)
    assert decide(ROUND, [AGREED, refusing], NOW).action == "raise"


def test_rank_that_waits_for_an_unaware_one_is_freed_after_a_while() -> None:
    waiting = RankWords(started=10, finished=10, acknowledged=10, waiting=10)
    unaware = RankWords(started=10, finished=9, acknowledged=0)
    first = decide(ROUND, [waiting, unaware], NOW)
    assert first.action == "wait"
    assert decide(first.round, [waiting, unaware], NOW + 0.5).action == "wait"
    assert decide(first.round, [waiting, unaware], NOW + 1.1).action == "raise"
    moved = decide(first.round, [waiting, UNAWARE], NOW + 0.5)
    assert decide(moved.round, [waiting, unaware], NOW + 1.1).action == "wait"


@pytest.mark.parametrize(
    ("rank", "reason"),
    [(replace(AGREED, is_alive=False), "died"), (replace(AGREED, is_done=True), "finished")],
)
def test_rank_that_is_gone_aborts(rank: RankWords, reason: str) -> None:
    decision = decide(ROUND, [AGREED, rank], NOW)
    assert decision.action == "abort" and reason in str(decision.round.reason)


def test_nothing_is_committed_so_late_that_a_rank_might_not_hear_of_it() -> None:
    late = ROUND.deadline - ROUND.settle_seconds
    assert decide(ROUND, [AGREED, AGREED], late - 0.01).action == "commit"
    assert decide(ROUND, [AGREED, AGREED], late).action == "abort"


def test_rank_that_lags_far_behind_is_waited_for_before_the_commit() -> None:
    lagging = RankWords(started=2, finished=1, acknowledged=10)
    assert decide(ROUND, [AGREED, lagging], NOW).action == "wait"


@pytest.mark.parametrize("phase", ["committed", "aborted"])
def test_decided_round_stays_as_it_is(phase: str) -> None:
    decided = Round(step=10, world_size=2, deadline=NOW + 30, phase=phase)  # type: ignore[arg-type]
    beyond = RankWords(started=14, finished=13, acknowledged=0, is_alive=False)
    assert decide(decided, [beyond, AGREED], NOW + 99).round == decided


def test_step_is_set_so_far_ahead_that_every_rank_hears_of_it_in_time() -> None:
    ranks = [RankWords(100, 99, 0), RankWords(98, 97, 0)]
    quick = open_round(
        ranks, world_size=2, deadline=NOW, step_seconds=0.001, round_trip_seconds=0.05
    )
    assert quick.step >= 200
    slow = open_round(ranks, world_size=2, deadline=NOW, step_seconds=20.0)
    assert slow.step == 100, "a long step is not followed by another one"
    assert open_round([], world_size=2, deadline=NOW).step == 1


def test_round_is_kept_as_json_and_told_in_words() -> None:
    committed = decide(ROUND, [AGREED, AGREED], NOW).round
    assert Round(**json.loads(json.dumps(asdict(committed)))) == committed
    assert committed.control_words() == (
        (word.DEADLINE, int(ROUND.deadline * 1000)),
        (word.EMERGENCY, 10),
        (word.COMMITTED, 10),
    )
