"""When a checkpoint is whole: the closing rule, with several ranks."""

from __future__ import annotations

import json

import pytest

from periflow_sdk import _control
from periflow_sdk.agent.ledger import Ledger
from periflow_sdk.agent.progress import RankProgress


def at(
    started: int,
    *,
    done: bool = False,
    pid: int = 0,
    finished: int | None = None,
    told: int = 0,
    saw_stop: bool = False,
) -> RankProgress:
    words = [0] * 16
    words[_control.PID], words[_control.SAVED_AT] = pid, told
    words[_control.STOP_SEEN] = int(saw_stop)
    return RankProgress(
        started=started,
        finished=started if finished is None else finished,
        total=0,
        is_done=done,
        words=tuple(words),
    )


def record(number: int, step: int, save: str = "NORMAL", **files: int) -> bytes:
    name = f"{number:032x}"
    document = {
        "t": "checkpoint",
        "s": step,
        "id": name,
        "save": save,
        "staged": f".periflow/{name}",
        "files": [{"path": path, "size": size} for path, size in files.items()],
    }
    return json.dumps(document).encode() + b"\n"


def verdict(ledger: Ledger, progress: dict[int, RankProgress], **end: bool) -> str:
    options = {"ended": False, "ended_well": False, **end}
    return ledger.verdict(ledger.gatherings[0], progress, **options)


def saved_by(*ranks: int) -> Ledger:
    ledger = Ledger()
    for rank in ranks:
        ledger.read(rank, record(rank, 5, **{f"part{rank}": 1}))
    return ledger


def test_open_until_every_rank_has_started_a_later_step():
    ledger = saved_by(0)
    assert verdict(ledger, {0: at(6), 1: at(5)}) == "open"
    assert verdict(ledger, {0: at(6), 1: at(6)}) == "whole"


def test_a_finished_rank_holds_nothing_open():
    assert verdict(saved_by(0), {0: at(6), 1: at(5, done=True)}) == "whole"


def test_parts_of_all_ranks_join_and_the_lowest_rank_wins():
    ledger = Ledger()
    ledger.read(1, record(1, 5, both=1, second=1))
    ledger.read(0, record(0, 5, both=2, first=1))
    (gathering,) = ledger.gatherings
    chosen = {path: (part.rank, size) for path, (part, size) in gathering.files().items()}
    assert chosen == {"both": (0, 2), "first": (0, 1), "second": (1, 1)}


def test_rank_that_died_before_it_could_save_leaves_it_unpublished():
    assert verdict(saved_by(0), {0: at(6), 1: at(5)}, ended=True) == "torn"


def test_end_of_the_training_closes_what_every_rank_has_saved():
    assert verdict(saved_by(0, 1), {0: at(5), 1: at(5)}, ended=True) == "whole"
    assert verdict(saved_by(0), {0: at(5)}, ended=True) == "whole"
    assert verdict(saved_by(0), {0: at(5), 1: at(5)}, ended=True, ended_well=True) == "whole"


def test_saving_the_same_file_again_without_a_step_closes_the_one_before():
    ledger = Ledger()
    ledger.read(0, record(1, 0, model=1) + record(2, 0, optimizer=1))
    assert len(ledger.gatherings) == 1
    ledger.read(0, record(3, 0, model=1))
    assert len(ledger.gatherings) == 2
    assert verdict(ledger, {0: at(0)}) == "whole"
    assert ledger.verdict(ledger.gatherings[1], {0: at(0)}, ended=False, ended_well=False) == "open"


def test_lines_that_are_no_records_are_counted():
    ledger = Ledger()
    ledger.read(0, b'{"t":"metric","m":{"note":"\\"checkpoint\\""}}\n')
    ledger.read(0, b'{"t":"checkpoint"}\n{"t":"checkpoint",\n')
    assert ledger.gatherings == []
    assert ledger.broken_records == 2


def test_memory_survives_being_written_down():
    ledger = saved_by(0, 1)
    document = json.loads(json.dumps(ledger.to_document()))
    assert Ledger.from_document(document) == ledger


def step_record(step: int) -> bytes:
    return json.dumps({"t": "step", "s": step}).encode() + b"\n"


def test_parts_from_before_and_after_a_restart_of_the_ranks_are_never_joined():
    ledger = Ledger()
    ledger.read(0, record(1, 10, r0=1), pid=100)
    ledger.read(1, step_record(9), pid=101)
    # Rank 1 died before its part; the launcher starts both again, and both save step 10 again.
    ledger.read(0, record(2, 10, r0=1), pid=200)
    ledger.read(1, record(3, 10, r1=1), pid=201)
    old, new = ledger.gatherings
    words = {0: at(11, pid=200), 1: at(11, pid=201)}
    state = {"ended": False, "ended_well": False}
    assert ledger.verdict(old, words, **state) == "torn"
    assert ledger.verdict(new, words, **state) == "whole"
    assert set(new.files()) == {"r0", "r1"}


def test_checkpoint_that_was_whole_before_a_restart_stays_whole():
    ledger = Ledger()
    ledger.read(0, record(1, 10, r0=1) + step_record(11), pid=100)
    ledger.read(1, step_record(10) + step_record(11), pid=101)
    assert verdict(ledger, {0: at(5, pid=200), 1: at(5, pid=201)}) == "whole"


def test_checkpoint_after_a_restart_waits_for_the_rank_that_is_not_back_yet():
    ledger = Ledger()
    ledger.read(1, step_record(50), pid=101)
    ledger.read(0, step_record(50), pid=100)
    ledger.read(0, record(2, 10, r0=1), pid=200)
    assert verdict(ledger, {0: at(11, pid=200), 1: at(50, pid=101)}) == "open"
    assert verdict(ledger, {0: at(11, pid=200), 1: at(10, pid=201)}) == "open"
    assert verdict(ledger, {0: at(11, pid=200), 1: at(11, pid=201)}) == "whole"


def test_checkpoint_waits_for_every_rank_that_the_launcher_starts():
    ledger = saved_by(0)
    ledger.read(0, b'{"t":"init","s":0,"local_world_size":2}\n')
    assert verdict(ledger, {0: at(6)}) == "open"
    assert verdict(ledger, {0: at(6), 1: at(6)}) == "whole"


def saved_in_an_emergency_by(*ranks: int) -> Ledger:
    ledger = Ledger()
    for rank in ranks:
        ledger.read(rank, record(rank, 5, "EMERGENCY", **{f"part{rank}": 1}))
    return ledger


ENDS: list[dict[str, bool]] = [{}, {"ended": True}, {"ended": True, "ended_well": True}]


@pytest.mark.parametrize("end", ENDS)
def test_emergency_checkpoint_is_refused_when_a_rank_left_before_its_step(end) -> None:
    ledger = saved_in_an_emergency_by(0)
    for left in (at(4, done=True), at(4, done=True, saw_stop=True), at(5, finished=4, done=True)):
        progress = {0: at(5, done=True, told=5), 1: left}
        assert verdict(ledger, progress, **end) == "torn"
        state = {"ended": False, "ended_well": False, **end}
        why = ledger.why_torn(ledger.gatherings[0], progress, **state)
        assert why == "rank 1 left at step 4, before the emergency step 5"


@pytest.mark.parametrize("end", ENDS)
def test_emergency_checkpoint_of_rank_0_alone_is_whole_when_every_rank_was_there(end) -> None:
    for other in (at(5, done=True, told=5), at(5, finished=4, done=True, saw_stop=True)):
        progress = {0: at(5, done=True, told=5), 1: other}
        assert verdict(saved_in_an_emergency_by(0), progress, **end) == "whole"


def test_emergency_checkpoint_waits_for_a_rank_that_is_still_on_its_way() -> None:
    progress = {0: at(5, done=True, told=5), 1: at(4)}
    assert verdict(saved_in_an_emergency_by(0), progress) == "open"
    assert verdict(saved_in_an_emergency_by(0), progress, ended=True, ended_well=True) == "torn"


@pytest.mark.parametrize("end", ENDS[1:])
def test_emergency_checkpoint_lacks_the_rank_that_died_in_its_save(end) -> None:
    progress = {0: at(5, done=True, told=5), 1: at(5, told=5)}
    ledger = saved_in_an_emergency_by(0)
    assert verdict(ledger, progress, **end) == "torn"
    state = {"ended": False, "ended_well": False, **end}
    why = ledger.why_torn(ledger.gatherings[0], progress, **state)
    assert why == "rank 1 ended before it had saved at step 5"


def test_part_that_a_rank_gave_before_it_died_counts() -> None:
    progress = {0: at(5, done=True, told=5), 1: at(5, finished=4, told=5)}
    assert verdict(saved_in_an_emergency_by(0, 1), progress, ended=True) == "whole"


def test_emergency_checkpoint_is_refused_when_a_rank_never_started() -> None:
    ledger = saved_in_an_emergency_by(0)
    ledger.read(0, b'{"t":"init","s":0,"local_world_size":2}\n')
    progress = {0: at(5, done=True, told=5)}
    assert verdict(ledger, progress, ended=True) == "torn"
    assert verdict(ledger, progress, ended=True, ended_well=True) == "whole"


def test_periodic_checkpoint_needs_no_rank_that_had_finished_earlier() -> None:
    assert verdict(saved_by(0), {0: at(6), 1: at(4, done=True)}) == "whole"
