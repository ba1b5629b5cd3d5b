"""The emergency round of several nodes, told by scripted agents."""

from __future__ import annotations

from typing import Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient


class Pair:
    """A job on two nodes, and what its agents say of their ranks."""

    def __init__(self, desk: Any) -> None:
        self.desk = desk
        self.job = desk.submit(vm="local-cpu-pair", num_devices=2, restart={"on": []})
        self.nodes = [desk.agent(self.job, node=node) for node in (0, 1)]
        for agent in self.nodes:
            agent.register()
        for agent in self.nodes:
            agent.beat()

    def say(self, node: int, started: int, acknowledged: int = 0, **words: Any) -> m.RoundAnswer:
        """Tell the words of a node's only rank."""
        fields = {"step_seconds": 0.1, "round_trip_seconds": 0.05, "notice_age_seconds": 0.0}
        rank = m.RankReport(
            started=started, finished=started - 1, acknowledged=acknowledged, **words
        )
        return self.nodes[node].api.advance_round(m.RoundReport(ranks=[rank], expected=1, **fields))

    def step(self, node: int = 0, started: int = 5) -> int:
        """The step of the round, once both nodes were heard."""
        self.say(0, started)
        answer = self.say(1, started)
        assert answer.round is not None
        return answer.round.step


@pytest.fixture
def pair(desk: Any) -> Pair:
    return Pair(desk)


def phase(answer: m.RoundAnswer) -> str:
    assert answer.round is not None
    return answer.round.phase


def test_round_opens_when_every_node_was_heard_ahead_of_all_ranks(pair: Pair) -> None:
    first = pair.say(0, 5)
    assert (first.round, first.takes_part) == (None, True)
    answer = pair.say(1, 9)
    assert answer.round is not None and answer.round.step > 9
    again = pair.say(0, 5)
    assert again.round is not None and again.round.step == answer.round.step


def test_round_is_committed_when_ranks_of_all_nodes_have_agreed(pair: Pair) -> None:
    step = pair.step()
    assert phase(pair.say(0, step, step)) == "open"
    assert phase(pair.say(1, step, step)) == "committed"
    assert phase(pair.say(0, step, step)) == "committed"


def test_word_of_one_agent_is_a_notice_to_the_others(pair: Pair) -> None:
    assert pair.nodes[1].beat().preempt is False
    pair.say(0, 5)
    assert pair.nodes[1].beat().preempt is True
    assert "notice" in pair.desk.kinds(pair.job.number)


def test_rank_beyond_the_step_raises_it_for_all(pair: Pair) -> None:
    step = pair.step()
    raised = pair.say(1, step + 3)
    assert raised.round is not None and raised.round.step > step + 3
    heard = pair.say(0, step, step)
    assert heard.round is not None and heard.round.step == raised.round.step


def test_node_that_is_never_heard_lets_none_save(pair: Pair) -> None:
    pair.desk.api.preempt_job(pair.desk.project, pair.job.number, grace_seconds=0.5)
    answer = pair.say(0, 5)
    assert answer.round is not None and answer.round.phase == "aborted"
    assert answer.round.reason == "node 1 was not heard of"
    assert phase(pair.say(1, 5)) == "aborted"


def test_dead_rank_aborts_and_no_later_word_changes_that(pair: Pair) -> None:
    step = pair.step()
    assert phase(pair.say(1, step, is_alive=False)) == "aborted"
    assert phase(pair.say(0, step, step)) == "aborted"
    assert phase(pair.say(1, step, step)) == "aborted"


def test_node_that_has_failed_aborts_the_round(pair: Pair) -> None:
    step = pair.step()
    pair.nodes[1].finish("exited", 1)
    answer = pair.say(0, step, step)
    assert phase(answer) == "aborted"
    assert pair.nodes[0].beat().end is True


def test_ranks_of_one_node_without_a_step_wait_for_those_of_the_other(pair: Pair) -> None:
    idle = pair.say(0, 0, has_begun=False)
    assert (idle.round, idle.takes_part) == (None, None)
    pair.say(1, 5)
    assert pair.say(0, 0, has_begun=False).takes_part is True


def test_killed_server_goes_on_with_the_round(own_desk: Any) -> None:
    pair = Pair(own_desk)
    step = pair.step()
    pair.say(0, step, step)
    own_desk.server.restart()
    for agent in pair.nodes:
        agent.api = ApiClient(own_desk.server.url, (agent.folder / "token").read_text())
    answer = pair.say(1, step, step)
    assert answer.round is not None
    assert (answer.round.phase, answer.round.step) == ("committed", step)
