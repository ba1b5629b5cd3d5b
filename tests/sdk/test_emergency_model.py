"""The emergency protocol as a small world, explored in every order or in many random ones."""

from __future__ import annotations

import random
from typing import Any

import pytest
from emergency_world import CARELESS_SCRIPTS, ENDLESS, SCRIPTS, World, random_world, run_wild

ROUNDS = 40


def _explore(start: World) -> int:
    """Visit every world that can come of this one; the number of them."""
    seen, stack = {hash(start.key())}, [start]
    count = len(start.ranks)
    moves = [(name, number) for name in ("read", "write", "act") for number in range(count)]
    moves += [("think", 0), ("tick", 2 * start.deadline)]
    while stack:
        world = stack.pop()
        if world.time > start.deadline:
            _assert_waits_end(world)
        for name, argument in moves:
            if name == "tick" and world.time > start.deadline:
                continue
            after = world.clone()
            getattr(after, name)(argument)
            key = hash(after.key())
            if key not in seen:
                seen.add(key)
                after.check()
                stack.append(after)
    return len(seen)


def _assert_waits_end(world: World) -> None:
    last = world.clone()
    for rank in last.ranks:
        rank.act()
    assert not last.waiting(), "a rank waits beyond the deadline"


def _small_world(script: str, count: int, total: int, **options: Any) -> World:
    # The decider has no patience: it may be as slow as it likes anyway.
    return World(script, count, total=total, deadline=10.0, patience_seconds=0.0, **options)


@pytest.mark.parametrize("is_coupled", [True, False], ids=["coupled", "uncoupled"])
def test_two_ranks_agree_in_every_order(is_coupled: bool) -> None:
    world = _small_world("asks after the step", 2, 1, is_coupled=is_coupled, step_seconds=5.0)
    assert _explore(world) > 5000


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("step_seconds", [None, 5.0], ids=["ahead", "at once"])
@pytest.mark.parametrize("is_coupled", [True, False], ids=["coupled", "uncoupled"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_two_ranks_agree_in_every_order_over_two_steps(
    script: str, is_coupled: bool, step_seconds: float | None
) -> None:
    world = _small_world(script, 2, 2, is_coupled=is_coupled, step_seconds=step_seconds)
    assert _explore(world) > 5000


@pytest.mark.parametrize("is_coupled", [True, False], ids=["coupled", "uncoupled"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_healthy_ranks_all_save_the_same_step(script: str, is_coupled: bool) -> None:
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        world = random_world(chance, script, is_coupled)
        run_wild(world, chance, 200, opens_at=chance.randrange(150))
        world.go_on_fairly(2000)
        assert all(rank.has_left for rank in world.ranks), f"seed {seed}: a rank is stuck"
        saved = {rank.saved for rank in world.ranks}
        assert len(saved) == 1 and None not in saved, f"seed {seed}: {saved}"


@pytest.mark.parametrize("is_coupled", [True, False], ids=["coupled", "uncoupled"])
@pytest.mark.parametrize("script", SCRIPTS | CARELESS_SCRIPTS)
def test_ranks_that_die_or_finish_and_short_deadlines_end_every_wait(
    script: str, is_coupled: bool
) -> None:
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        total, deadline = chance.choice([2, 5, ENDLESS]), chance.choice([0.6, 3.0])
        world = random_world(chance, script, is_coupled, total=total, deadline=deadline)
        run_wild(world, chance, 100, opens_at=chance.randrange(80))
        if chance.random() < 0.5:
            chance.choice(world.ranks).is_dead = True
        run_wild(world, chance, 100)
        world.tick(deadline + 1)
        run_wild(world, chance, 50)
        for rank in world.ranks:
            rank.act()
        assert not world.waiting(), f"seed {seed}: a rank waits beyond the deadline"
