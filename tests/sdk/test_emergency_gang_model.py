"""Rounds over several nodes: old words go up, old answers come down, and a node may be cut off.

The rule, the ranks and their scripts are those of the world of one node. What is new is the way:
an agent hears its ranks, the control plane hears agents, and answers come back late or never.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from emergency_world import CARELESS_SCRIPTS, ENDLESS, SCRIPTS, Rank, World

from periflow_sdk import _control as word
from periflow_sdk._emergency import RankWords, Round, abort, decide, open_round
from periflow_sdk.agent.progress import RankProgress

ROUNDS = 25
LAST_SECONDS = 0.25  # so long before the deadline an agent without a decision aborts by itself


class GangWorld(World):
    """Nodes of one or two ranks; agents know ``seen``, the control plane ``told``."""

    def __init__(self, script: str, ranks_of_nodes: list[int], **options: Any) -> None:
        super().__init__(script, sum(ranks_of_nodes), **options)
        numbers = iter(range(len(self.ranks)))
        self.nodes = [[next(numbers) for _ in range(count)] for count in ranks_of_nodes]
        self.node_of = {rank: node for node, ranks in enumerate(self.nodes) for rank in ranks}
        self.told: list[list[RankWords] | None] = [None] * len(self.nodes)
        self.answers: list[Round | None] = [None] * len(self.nodes)
        self.heard: list[Round | None] = [None] * len(self.nodes)
        self.cut_off: set[int] = set()

    def tell(self, node: int) -> None:
        """The agent's words arrive; the answer is on its way."""
        if node in self.cut_off:
            return
        self.told[node] = [self.seen[rank] for rank in self.nodes[node]]
        if any(words is None for words in self.told):
            return
        ranks = [rank for words in self.told for rank in words or []]
        if self.round is None:
            opened = open_round(
                ranks,
                world_size=len(self.ranks),
                deadline=self.deadline,
                step_seconds=self.step_seconds,
                round_trip_seconds=0.2,
            )
            self.round = replace(opened, patience_seconds=self.patience_seconds)
        else:
            self.round = decide(self.round, ranks, self.time).round
        self.answers[node] = self.round

    def hear(self, node: int) -> None:
        """The answer arrives, unless this node has made an end of it already."""
        current = self.heard[node]
        is_open = current is None or current.phase == "open"
        if is_open and node not in self.cut_off and self.answers[node] is not None:
            self.heard[node] = self.answers[node]

    def write(self, number: int) -> None:
        node = self.node_of[number]
        current = self.heard[node]
        if self.time >= self.deadline - LAST_SECONDS and (not current or current.phase == "open"):
            last = current or Round(1, len(self.ranks), self.deadline)
            current = self.heard[node] = abort(last, "the control plane did not decide")
        for index, value in current.control_words() if current else ():
            self.ranks[number].control[index] = value

    def tick(self, seconds: float) -> None:
        """Time passes; a node that is not cut off hears of a commit before it gives up."""
        later = self.time + seconds
        is_decided = self.round is not None and self.round.phase == "committed"
        if is_decided and later >= self.deadline - LAST_SECONDS:
            for node, ranks in enumerate(self.nodes):
                self.answers[node] = self.round
                self.hear(node)
                for rank in ranks:
                    self.write(rank)
        self.time = later

    def check(self) -> None:
        """What must hold at every moment."""
        saved = {rank.saved for rank in self.ranks} - {None}
        assert len(saved) <= 1, f"ranks save at different steps: {saved}"
        for step in saved:
            if self.is_published(step):
                for rank in self.ranks:
                    assert rank.saved == step, "a checkpoint is published without a rank's part"
                    assert rank.said_no < step, "a rank has passed the save"

    def is_published(self, step: int) -> bool:
        """Whether the parts are joined: all ranks of all nodes had agreed, and have been there."""
        return all(rank.has_left and _agreed(rank, step) for rank in self.ranks)

    def go_on_fairly(self, turns: int, seconds: float = 0.1) -> None:
        for _ in range(turns):
            for number, rank in enumerate(self.ranks):
                rank.act()
                self.read(number)
            for node, ranks in enumerate(self.nodes):
                self.tell(node)
                self.hear(node)
                for rank in ranks:
                    self.write(rank)
            self.tick(seconds)
            self.check()
            if all(rank.has_left or rank.is_dead for rank in self.ranks):
                return


def _agreed(rank: Rank, step: int) -> bool:
    words = rank.progress
    seen = RankProgress(words[word.STARTED], words[word.FINISHED], 0, rank.has_left, tuple(words))
    return words[word.ACKNOWLEDGED] == step and seen.was_at(step)


def random_gang(chance: random.Random, script: str, is_coupled: bool, **options: Any) -> GangWorld:
    return GangWorld(
        script,
        chance.choice([[1, 1], [2, 2], [1, 2], [1, 1, 1]]),
        is_coupled=is_coupled,
        step_seconds=chance.choice([None, 0.01, 5.0]),
        patience_seconds=chance.choice([0.0, 1.0]),
        **options,
    )


def run_wild(world: GangWorld, chance: random.Random, actions: int) -> None:
    moves = [(name, n) for name in ("read", "write", "act") for n in range(len(world.ranks))]
    moves += [(name, n) for name in ("tell", "hear") for n in range(len(world.nodes))]
    moves += [("tick", chance.choice([0.01, 0.3]))]
    weights = [chance.choice([1, 1, 1, 8]) for _ in moves]
    for name, argument in chance.choices(moves, weights, k=actions):
        getattr(world, name)(argument)
        world.check()


@pytest.mark.parametrize("is_coupled", [True, False], ids=["coupled", "uncoupled"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_ranks_of_all_nodes_save_the_same_step(script: str, is_coupled: bool) -> None:
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        world = random_gang(chance, script, is_coupled)
        run_wild(world, chance, 300)
        world.go_on_fairly(2000)
        saved = {rank.saved for rank in world.ranks}
        assert len(saved) == 1 and None not in saved, f"seed {seed}: {saved}"
        assert world.is_published(saved.pop()), f"seed {seed}: a rank is stuck"


@pytest.mark.parametrize("is_coupled", [True, False], ids=["coupled", "uncoupled"])
@pytest.mark.parametrize("script", SCRIPTS | CARELESS_SCRIPTS)
def test_nodes_that_are_cut_off_or_lose_a_rank_end_every_wait(
    script: str, is_coupled: bool
) -> None:
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        total, deadline = chance.choice([2, 5, ENDLESS]), chance.choice([0.6, 3.0])
        world = random_gang(chance, script, is_coupled, total=total, deadline=deadline)
        run_wild(world, chance, 150)
        world.cut_off |= set(chance.sample(range(len(world.nodes)), chance.choice([0, 1, 2])))
        if chance.random() < 0.4:
            chance.choice(world.ranks).is_dead = True
        run_wild(world, chance, 150)
        world.tick(deadline + 1)
        run_wild(world, chance, 50)
        for rank in world.ranks:
            rank.act()
        assert not world.waiting(), f"seed {seed}: a rank waits beyond the deadline"
