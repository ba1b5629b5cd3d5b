"""Sharded checkpoints: announced when saved, whole when every rank has written its part."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from periflow_sdk.agent.ledger import Ledger
from periflow_sdk.agent.progress import RankProgress

FOLDER = "sharded"


def record(number: int, step: int = 5, ranks: int = 2, **more: Any) -> bytes:
    name = f"{number:032x}"
    document = {"t": "checkpoint", "s": step, "id": name, "save": "NORMAL", "files": []}
    document |= {"staged": f".periflow/{name}", "ranks": ranks, "folder": FOLDER}
    return json.dumps(document | more).encode() + b"\n"


def files(*names: str) -> list[dict[str, Any]]:
    return [{"path": f"{FOLDER}/{name}", "size": 1} for name in names]


def at(started: int, *, done: bool = False) -> RankProgress:
    return RankProgress(started=started, finished=started, total=0, is_done=done)


def verdict(ledger: Ledger, started: int = 9, *, ended: bool = False, well: bool = False) -> str:
    progress = {0: at(started, done=well), 1: at(started, done=well)}
    return ledger.verdict(ledger.gatherings[0], progress, ended=ended, ended_well=well)


SECOND = {0: files("__0_0.distcp", ".metadata"), 1: files("__1_0.distcp")}


def test_it_stays_open_until_all_parts_are_written_however_far_the_ranks_have_gone() -> None:
    ledger = Ledger()
    ledger.read(0, record(1))
    ledger.read(1, record(2))
    assert verdict(ledger) == "open"
    ledger.read(0, record(1, files=SECOND[0]))
    assert verdict(ledger) == "open"
    ledger.read(1, record(2, files=SECOND[1]))
    assert verdict(ledger, 5) == "open"
    assert verdict(ledger) == "whole"
    (gathering,) = ledger.gatherings
    names = {f"{FOLDER}/{name}" for name in ("__0_0.distcp", ".metadata", "__1_0.distcp")}
    assert gathering.step == 5 and set(gathering.files()) == names


def test_no_order_of_records_and_no_end_publishes_it_without_a_part() -> None:
    """Every prefix of every interleaving, ended in every way: whole only with all files."""
    rank0, rank1 = [record(1), record(1, files=SECOND[0])], [record(2), record(2, files=SECOND[1])]
    for picks in set(itertools.permutations([0, 0, 1, 1])):
        for length in range(1, 5):
            ledger, queues = Ledger(), {0: iter(rank0), 1: iter(rank1)}
            for rank in picks[:length]:
                ledger.read(rank, next(queues[rank]))
            for ended, well in ((False, False), (True, False), (True, True)):
                found = verdict(ledger, ended=ended, well=well)
                assert (found == "whole") == (length == 4)


def test_a_part_whose_announcement_was_lost_is_missed() -> None:
    ledger = Ledger()
    ledger.read(0, record(1) + record(1, files=SECOND[0]))
    assert verdict(ledger, 5) == "open"
    assert verdict(ledger) == "torn"
    assert "not all of 2 ranks" in ledger.gatherings[0].lack


def test_a_failed_write_fails_the_checkpoint_and_says_why() -> None:
    ledger = Ledger()
    for rank, number in ((0, 1), (1, 2)):
        ledger.read(rank, record(number) + record(number, failure="No space left on device"))
    assert verdict(ledger) == "torn"
    assert "No space left" in ledger.gatherings[0].lack
    ledger.gatherings.clear()
    ledger.read(1, record(2, failure="late"))
    assert ledger.gatherings == []


def test_a_rank_with_nothing_to_write_has_an_empty_part() -> None:
    ledger = Ledger()
    ledger.read(0, record(1) + record(1, files=SECOND[0]))
    ledger.read(1, record(2) + record(2))
    assert verdict(ledger) == "whole"


def test_saving_again_at_the_same_step_is_another_checkpoint() -> None:
    ledger = Ledger()
    ledger.read(0, record(1) + record(1, files=SECOND[0]) + record(3))
    ledger.read(1, record(2) + record(2, files=SECOND[1]) + record(4))
    first, second = ledger.gatherings
    assert [part.upload_id[-1] for part in first.parts] == ["1", "2"]
    assert [part.upload_id[-1] for part in second.parts] == ["3", "4"]
    assert verdict(ledger, 5) == "whole"


def test_a_plain_file_of_the_same_step_joins_it() -> None:
    ledger = Ledger()
    plain = {"t": "checkpoint", "s": 5, "id": f"{9:032x}", "save": "NORMAL"}
    plain |= {"staged": f".periflow/{9:032x}", "files": [{"path": "extra.pt", "size": 3}]}
    ledger.read(0, record(1) + json.dumps(plain).encode() + b"\n")
    ledger.read(1, record(2) + record(2, files=SECOND[1]))
    assert verdict(ledger) == "open"
    ledger.read(0, record(1, files=SECOND[0]))
    assert verdict(ledger) == "whole" and "extra.pt" in ledger.gatherings[0].files()


@pytest.mark.parametrize(
    "more",
    [{"folder": "../up"}, {"ranks": 0}, {"files": [{"path": "elsewhere/x", "size": 1}]}],
)
def test_records_that_lead_elsewhere_are_set_aside(more: dict[str, Any]) -> None:
    ledger = Ledger()
    ledger.read(0, record(1, **more))
    assert ledger.gatherings == [] and ledger.broken_records == 1


def test_memory_of_parts_survives_being_written_down() -> None:
    ledger = Ledger()
    ledger.read(0, record(1))
    again = Ledger.from_document(json.loads(json.dumps(ledger.to_document())))
    assert again == ledger
    again.read(0, record(1, files=SECOND[0]))
    assert again.gatherings[0].parts[0].is_written
