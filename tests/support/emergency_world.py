"""A small world for the emergency protocol, which can be stopped between any two actions.

It runs the real rule of the decider and the real rule of a rank; its scripts, its agent and its
clock are small.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from periflow_sdk import _control as word
from periflow_sdk._agreement import Agreement
from periflow_sdk._emergency import RankWords, Round, decide, open_round

# What a rank does in a step. "meet" is a collective, "save?" and "stop?" are the two questions;
# "save+stop?" saves when it should stop; "tell" and "hear" hand on what rank 0 was answered.
SCRIPTS = {
    "asks after the step": ["start", "meet", "end", "save?", "stop?"],
    "asks in the step, before its all-reduce": ["start", "save?", "meet", "end", "stop?"],
    "asks in the step, after its all-reduce": ["start", "meet", "save?", "end", "stop?"],
    "asks twice": ["start", "save?", "meet", "end", "save?", "stop?"],
    "asks at the top whether to stop": ["stop?", "start", "meet", "end", "save?"],
    "saves when it should stop": ["start", "meet", "end", "save+stop?"],
    "evaluates together after asking": ["start", "meet", "end", "save?", "meet", "stop?"],
    "evaluates together before asking": ["start", "meet", "end", "meet", "save?", "stop?"],
    "accumulates gradients": ["start", "meet", "meet", "end", "save?", "stop?"],
    "rank 0 asks for all": ["start", "meet", "end", "tell", "stop?"],
}
CARELESS_SCRIPTS = {
    "asks every other step": ["start", "meet", "end", "start", "meet", "end", "save?", "stop?"],
    "never asks": ["start", "meet", "end"],
}
ENDLESS = 10**6


class MustWait(BaseException):
    """The rank waits; it looks again when its turn comes."""


class Rank:
    def __init__(self, world: World, number: int) -> None:
        self.script = list(world.script)
        if number and "tell" in self.script:
            self.script[self.script.index("tell")] = "hear"
        self.world = world
        self.progress = [0] * 16
        self.control = [0] * 8
        self.pc = self.step = self.meetings = 0
        self.is_meeting = self.has_left = self.is_dead = False
        self.saved: int | None = None
        self.said_no = 0
        self.told = -1  # the last step about which rank 0 has told
        self.agreement = Agreement(self.progress, self.control, self._now, self._sleep)

    def twin(self, world: World) -> Rank:
        other = object.__new__(Rank)
        other.__dict__.update(self.__dict__)
        other.world, other.progress, other.control = world, self.progress[:], self.control[:]
        other.agreement = Agreement(other.progress, other.control, other._now, other._sleep)
        other.agreement.refused = self.agreement.refused
        other.agreement._has_given_up = self.agreement._has_given_up
        return other

    def key(self) -> tuple[Any, ...]:
        agreement = self.agreement
        return (
            (*self.progress[3:11], *self.control[:6], self.pc, self.step, self.meetings, self.told),
            (self.is_meeting, self.has_left, self.is_dead, self.saved, self.said_no),
            (agreement.refused, agreement._has_given_up),
        )

    def is_blocked(self) -> bool:
        """It stands in a collective that another rank has not come to."""
        return self.is_meeting and any(
            r.meetings < self.meetings and (r is not self) for r in self.world.ranks
        )

    def act(self) -> None:
        """Do the next thing, if nothing is in the way, and what follows that nobody else sees."""
        if self.has_left or self.is_dead or self.is_blocked():
            return
        self.is_meeting = False
        self.progress[word.WAITING] = 0
        try:
            while self._do(self.script[self.pc]):
                pass
        except MustWait:
            self.progress[word.WAITING] = self.step

    def _do(self, action: str) -> bool:
        """Do it; whether something follows that no other rank can tell from doing it later."""
        getattr(self, f"_{action.rstrip('?').replace('+', '_')}")()
        if self.has_left or (action == "hear" and self.told < self.step):
            return False
        self.pc = (self.pc + 1) % len(self.script)
        following = self.script[self.pc]
        if action == "start":
            return following == "meet" and self.world.is_coupled
        return following in ("meet", "end") and not self.is_meeting

    def _start(self) -> None:
        if self.step == self.world.total:
            self._leave()
            return
        if self.control[word.EMERGENCY]:
            self.agreement.before_next(self.step)
        self.step += 1
        self.progress[word.STARTED] = self.step

    def _meet(self) -> None:
        if self.world.is_coupled:
            self.meetings += 1
            self.is_meeting = True

    def _end(self) -> None:
        self.progress[word.FINISHED] = self.step

    def _save(self) -> None:
        self._note(self.agreement.is_emergency_save(self.step))

    def _stop(self) -> None:
        if self.agreement.should_stop(self.step):
            self._leave()

    def _save_stop(self) -> None:
        is_time = self.agreement.should_stop(self.step)
        self._note(is_time and self.agreement.is_emergency_save(self.step))
        if is_time:
            self._leave()

    def _tell(self) -> None:
        self._save()
        for rank in self.world.ranks:
            rank.told = self.step
            rank.told_save = self.saved == self.step  # type: ignore[attr-defined]

    def _hear(self) -> None:
        if self.told >= self.step:
            self._note(self.saved == self.step or (self.told == self.step and self._said()))

    def _said(self) -> bool:
        return bool(getattr(self, "told_save", False))

    def _note(self, is_save: bool) -> None:
        if is_save:
            self.saved = self.step
        else:
            self.said_no = self.step

    def _leave(self) -> None:
        self.has_left = True
        self.progress[word.STATE] = word.DONE

    def _now(self) -> float:
        return self.world.time

    def _sleep(self, seconds: float) -> None:
        raise MustWait


class World:
    """Ranks, an agent with old news, and a clock."""

    def __init__(self, script: str, count: int, **options: Any) -> None:
        self.script = (SCRIPTS | CARELESS_SCRIPTS)[script]
        self.is_coupled = options.get("is_coupled", True)
        self.total = options.get("total", ENDLESS)
        self.deadline = options.get("deadline", 10.0**6)
        self.step_seconds = options.get("step_seconds")
        self.weights: list[int] = []
        self.patience_seconds = options.get("patience_seconds", 1.0)
        self.time = 0.0
        self.round: Round | None = None
        self.ranks = [Rank(self, number) for number in range(count)]
        self.seen = [RankWords(0, 0, 0) for _ in self.ranks]

    def key(self) -> tuple[Any, ...]:
        is_open = self.round is not None and self.round.phase == "open"
        own = (self.time, self.round, *(self.seen if is_open else ()))
        return (own, *(rank.key() for rank in self.ranks))

    def clone(self) -> World:
        other = object.__new__(World)
        other.__dict__.update(self.__dict__)
        other.seen = list(self.seen)
        other.ranks = [rank.twin(other) for rank in self.ranks]
        return other

    # What the agent does, each at any moment.
    def read(self, number: int) -> None:
        rank = self.ranks[number]
        self.seen[number] = RankWords.of(rank.progress, is_alive=not rank.is_dead)

    def think(self, number: int) -> None:
        if self.round is None:
            for other in range(len(self.ranks)):
                self.read(other)
            opened = open_round(
                self.seen,
                world_size=len(self.ranks),
                deadline=self.deadline,
                step_seconds=self.step_seconds,
            )
            self.round = replace(opened, patience_seconds=self.patience_seconds)
        else:
            self.round = decide(self.round, self.seen, self.time).round

    def write(self, number: int) -> None:
        if self.round is not None:
            for index, value in self.round.control_words():
                self.ranks[number].control[index] = value

    def act(self, number: int) -> None:
        self.ranks[number].act()

    def tick(self, seconds: float) -> None:
        """Time passes; a commit that is not everywhere is on its way for half a second at most."""
        later = self.time + seconds
        is_on_its_way = self.round is not None and self.round.phase == "committed"
        if is_on_its_way and later >= self.deadline:
            for number in range(len(self.ranks)):
                self.write(number)
        self.time = later

    def check(self) -> None:
        """What must hold at every moment."""
        saved = {rank.saved for rank in self.ranks} - {None}
        assert len(saved) <= 1, f"ranks save at different steps: {saved}"
        for step in saved:
            for rank in self.ranks:
                assert rank.saved == step or rank.said_no < step, "a rank has passed the save"
                if rank.has_left and rank.saved != step:
                    assert self.time >= self.deadline or rank.step == self.total

        if self.round is not None and self.round.phase == "committed":
            for rank in self.ranks:
                is_told = rank.control[word.COMMITTED] == self.round.step
                assert is_told or rank.step <= self.round.step, "a rank has gone on unaware"

    def waiting(self) -> list[Rank]:
        return [r for r in self.ranks if r.progress[word.WAITING] and not r.is_dead]

    def go_on_fairly(self, turns: int, seconds: float = 0.1) -> None:
        """Everybody acts in turn, nobody is forgotten."""
        for _ in range(turns):
            for number, rank in enumerate(self.ranks):
                rank.act()
                self.read(number)
            self.think(0)
            for number in range(len(self.ranks)):
                self.write(number)
            self.tick(seconds)
            self.check()
            if all(r.has_left or r.is_dead for r in self.ranks):
                return


def random_world(chance: random.Random, script: str, is_coupled: bool, **options: Any) -> World:
    step_seconds = chance.choice([None, 0.01, 5.0])
    world = World(
        script,
        chance.choice([2, 3, 4]),
        is_coupled=is_coupled,
        step_seconds=step_seconds,
        patience_seconds=chance.choice([0.0, 1.0]),
        **options,
    )
    # Some are slow, some are quick, and the agent looks more or less often.
    world.weights = [chance.choice([1, 1, 1, 8]) for _ in range(3 * len(world.ranks) + 2)]
    return world


def run_wild(world: World, chance: random.Random, actions: int, *, opens_at: int = 0) -> None:
    count = len(world.ranks)
    moves = [(name, number) for name in ("read", "write", "act") for number in range(count)]
    moves += [("think", 0), ("tick", chance.choice([0.01, 0.3]))]
    for turn, (name, argument) in enumerate(chance.choices(moves, world.weights, k=actions)):
        if name != "think" or turn >= opens_at:
            getattr(world, name)(argument)
            world.check()
