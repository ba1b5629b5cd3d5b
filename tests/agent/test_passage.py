"""How far the ranks of a node are with their checkpoints, as other nodes have to know it."""

from __future__ import annotations

import json

from periflow_sdk import _control as word
from periflow_sdk.agent.ledger import EVERY_STEP, Ledger
from periflow_sdk.agent.progress import RankProgress


def progress(started: int, *, pid: int = 1, is_done: bool = False) -> RankProgress:
    words = [0] * 16
    words[word.PID] = pid
    return RankProgress(started, started - 1, 0, is_done, tuple(words))


def ledger(ranks: int = 1, *pids: int) -> Ledger:
    """A ledger that has read the beginnings of ranks, each with these processes."""
    found = Ledger(is_gang=True)
    for rank in range(ranks):
        for pid in pids or (1,):
            init = json.dumps(
                {"t": "init", "s": 0, "local_world_size": ranks}, separators=(",", ":")
            )
            found.read(rank, init.encode() + b"\n", pid)
    return found


def passed(ledger: Ledger, *ranks: RankProgress, generation: int = 0, **how: bool):
    how = {"ended": False, "ended_well": False, **how}
    return ledger.passed(generation, dict(enumerate(ranks)), **how)


def test_node_has_passed_what_its_slowest_rank_has() -> None:
    assert passed(ledger(2), progress(7), progress(5)) == (4, False)


def test_nothing_is_passed_before_all_ranks_are_there() -> None:
    assert passed(ledger(2), progress(7)) == (-1, False)


def test_rank_that_has_finished_is_not_waited_for() -> None:
    done = progress(3, is_done=True)
    assert passed(ledger(2), done, progress(7)) == (6, False)
    assert passed(ledger(2), done, done) == (EVERY_STEP, False)


def test_training_that_was_killed_passes_no_further() -> None:
    assert passed(ledger(), progress(7), ended=True) == (6, True)


def test_training_that_ended_well_has_passed_everything() -> None:
    assert passed(ledger(), progress(7), ended=True, ended_well=True) == (EVERY_STEP, False)
    assert passed(ledger(), ended=True) == (EVERY_STEP, False)  # no rank of ours at all


def test_earlier_process_of_a_rank_has_passed_what_it_recorded() -> None:
    restarted = ledger(1, 1, 2)
    restarted.read(0, b'{"t":"step","s":6}\n', 1)
    assert passed(restarted, progress(3, pid=2)) == (5, True)
    assert passed(restarted, progress(3, pid=2), generation=1) == (2, False)


def test_later_start_of_the_ranks_of_other_nodes_is_not_passed_here() -> None:
    assert passed(ledger(), progress(7), generation=1) == (-1, False)
    assert passed(ledger(), progress(7), generation=1, ended=True, ended_well=True) == (-1, True)
