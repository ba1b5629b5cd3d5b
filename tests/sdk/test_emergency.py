"""Real ranks come to one step, save there and leave; the decider is a loop in this process."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from periflow_sdk import _control as word
from periflow_sdk._emergency import RankWords, Round, decide, open_round

if TYPE_CHECKING:
    from conftest import Run

# A rank: steps of its own length, coupled through files, and a saved.json at the end.
RANK = textwrap.dedent("""
    import json, os, pathlib, sys, time
    import periflow_sdk as pf

    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    options = json.loads(sys.argv[1])
    seconds = options["seconds"][rank]
    marks = pathlib.Path("marks")

    def all_reduce(step):
        if not options.get("coupled"):
            return
        (marks / f"{rank}-{step}").touch()
        while not all((marks / f"{other}-{step}").exists() for other in range(count)):
            time.sleep(0.001)

    pf.init(total_train_steps=100_000)
    saved = []
    while True:
        with pf.train_step():
            time.sleep(seconds)
            all_reduce(pf.current_step())
        if pf.is_emergency_save():
            saved.append(pf.current_step())
            pathlib.Path(os.environ["CKPT_DIR"], f"{rank}.bin").write_bytes(b"state")
            pf.upload_checkpoint()
        if options.get("evaluates_at") == pf.current_step() and rank == 0:
            time.sleep(options["evaluation"])
        if pf.should_stop():
            break
        if options.get("dies_at") == pf.current_step() and rank == 0:
            os.abort()
    pf.finish()
    pathlib.Path(f"saved-{rank}.json").write_text(json.dumps(saved))
""")


class Node:
    """Ranks of one job and a decider that treats them as the agent does."""

    def __init__(self, job: Run, count: int, **options: object) -> None:
        self.job, self.count = job, count
        self.round: Round | None = None
        (job.folder / "marks").mkdir()
        arguments = [sys.executable, "-c", RANK, json.dumps(options)]
        names = [{"RANK": str(rank), "WORLD_SIZE": str(count)} for rank in range(count)]
        self.processes = [
            subprocess.Popen(arguments, env=job.variables(**more), cwd=job.folder) for more in names
        ]

    def words(self, rank: int) -> tuple[int, ...] | None:
        try:
            data = (self.job.run_dir / f"rank-{rank}" / "progress").read_bytes()
        except OSError:
            return None
        words = struct.unpack_from("<16q", data) if len(data) == word.SIZE else (0,)
        return words if words[0] == word.MAGIC else None

    def ranks(self) -> list[RankWords]:
        pages = [self.words(rank) for rank in range(self.count)]
        alive = [process.poll() is None for process in self.processes]
        return [
            RankWords.of(p, is_alive=a) for p, a in zip(pages, alive, strict=True) if p is not None
        ]

    def begin(self, grace_seconds: float) -> None:
        self.round = open_round(
            self.ranks(),
            world_size=self.count,
            deadline=time.time() + grace_seconds,
            step_seconds=0.01,
            round_trip_seconds=0.01,
        )
        self.tell()

    def tell(self) -> None:
        assert self.round is not None
        for rank in range(self.count):
            with (self.job.run_dir / f"rank-{rank}" / "control").open("r+b") as control:
                for index, value in self.round.control_words():
                    control.seek(8 * index)
                    control.write(struct.pack("<q", value))

    def decide_until_all_have_left(self, patience_seconds: float = 90.0) -> None:
        assert self.round is not None
        end = time.monotonic() + patience_seconds
        while any(process.poll() is None for process in self.processes):
            assert time.monotonic() < end, f"a rank has not left: {self.ranks()}"
            self.round = decide(self.round, self.ranks(), time.time()).round
            self.tell()
            time.sleep(0.002)

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 90
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.002)

    def has_reached(self, step: int) -> bool:
        ranks = self.ranks()
        return len(ranks) == self.count and all(rank.finished >= step for rank in ranks)

    def saved(self) -> list[list[int]]:
        files = [self.job.folder / f"saved-{rank}.json" for rank in range(self.count)]
        return [json.loads(file.read_text()) if file.exists() else [] for file in files]


@pytest.fixture
def node(job: Run) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def start(count: int, **options: object) -> Node:
        nodes.append(Node(job, count, **options))
        return nodes[-1]

    yield start
    for started in nodes:
        for process in started.processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("coupled", [True, False], ids=["coupled", "uncoupled"])
def test_ranks_save_at_the_same_step_and_exit_0(
    node: Callable[..., Node], count: int, coupled: bool
) -> None:
    seconds = [0.002 * (1 + rank) for rank in range(count)]
    ranks = node(count, seconds=seconds, coupled=coupled)
    ranks.until(lambda: ranks.has_reached(5))
    ranks.begin(grace_seconds=25)
    ranks.decide_until_all_have_left()
    assert ranks.round is not None and ranks.round.phase == "committed"
    assert ranks.saved() == [[ranks.round.step]] * count
    assert [process.returncode for process in ranks.processes] == [0] * count
    for rank in range(count):
        assert ranks.job.word("progress", word.STOP_SEEN, rank) == 1
        assert [r["save"] for r in ranks.job.records(rank, "checkpoint")] == ["EMERGENCY"]


def test_ranks_0_6_seconds_apart_save_at_the_same_step(node: Callable[..., Node]) -> None:
    ranks = node(2, seconds=[0.002, 0.002], coupled=True, evaluates_at=4, evaluation=0.6)
    ranks.until(lambda: ranks.has_reached(3))
    ranks.begin(grace_seconds=20)
    ranks.decide_until_all_have_left()
    assert ranks.round is not None and ranks.round.phase == "committed"
    assert ranks.saved() == [[ranks.round.step]] * 2


def test_none_saves_when_one_is_too_far_behind_for_the_deadline(node: Callable[..., Node]) -> None:
    ranks = node(2, seconds=[0.002, 0.5])
    ranks.until(lambda: ranks.has_reached(1))
    ranks.begin(grace_seconds=2)
    ranks.decide_until_all_have_left()
    assert ranks.round is not None and ranks.round.phase == "aborted"
    assert ranks.saved() == [[], []]
    assert [process.returncode for process in ranks.processes] == [0, 0]
    words = ranks.words(0)
    assert words is not None and words[word.STARTED] <= ranks.round.step


def test_rank_in_evaluation_agrees_when_it_is_back(node: Callable[..., Node]) -> None:
    ranks = node(2, seconds=[0.01, 0.01], coupled=True, evaluates_at=5, evaluation=0.6)
    ranks.until(lambda: ranks.has_reached(5))
    ranks.begin(grace_seconds=20)
    ranks.decide_until_all_have_left()
    assert ranks.round is not None and ranks.round.phase == "committed"
    assert ranks.saved() == [[ranks.round.step]] * 2


def test_death_of_a_rank_aborts_and_the_other_leaves_without_a_save(
    node: Callable[..., Node],
) -> None:
    ranks = node(2, seconds=[0.3, 0.002], dies_at=2)
    ranks.until(lambda: ranks.has_reached(1))
    ranks.begin(grace_seconds=80)
    begin = time.monotonic()
    ranks.decide_until_all_have_left()
    assert time.monotonic() - begin < 75
    assert ranks.round is not None
    assert (ranks.round.phase, ranks.round.reason) == ("aborted", "a rank has died")
    assert ranks.saved() == [[], []] and ranks.processes[1].returncode == 0


def test_rank_waits_no_longer_than_the_deadline_when_the_decider_is_gone(
    node: Callable[..., Node],
) -> None:
    ranks = node(2, seconds=[0.002, 0.002], coupled=True)
    ranks.until(lambda: ranks.has_reached(3))
    ranks.begin(grace_seconds=1.5)
    begin = time.monotonic()
    ranks.until(lambda: all(process.poll() is not None for process in ranks.processes))
    assert 0.5 < time.monotonic() - begin < 60
    assert ranks.saved() == [[], []]
    assert [rank.acknowledged < 0 for rank in ranks.ranks()] == [True, True]
