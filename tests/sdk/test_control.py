"""What the agent tells a rank."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

import periflow_sdk as pf
from periflow_sdk import _control as word

if TYPE_CHECKING:
    from conftest import Run


def test_nothing_is_asked_of_a_new_run(run: Run) -> None:
    pf.init()
    pf.start_step()
    assert (pf.is_emergency_save(), pf.should_stop(), pf.deadline()) == (False, False, None)


def test_emergency_save_is_at_one_step_and_should_stop_from_there_on(job: Run) -> None:
    pf.init()
    seen = []
    job.tell(word.EMERGENCY, 3)
    job.tell(word.COMMITTED, 3)
    for _ in range(4):
        with pf.train_step():
            seen.append((pf.is_emergency_save(), pf.should_stop()))
    assert seen == [(False, False), (False, False), (True, True), (False, True)]
    assert job.word("progress", word.STOP_SEEN) == 1
    assert job.word("progress", word.SAVED_AT) == 3


def test_emergency_step_is_acknowledged_when_a_step_starts(job: Run) -> None:
    pf.init()
    job.tell(word.EMERGENCY, 2)
    with pf.train_step():
        assert job.word("progress", word.ACKNOWLEDGED) == 2
        assert not pf.is_emergency_save() and not pf.should_stop()


def test_emergency_step_is_acknowledged_between_steps_too(job: Run) -> None:
    pf.init()
    for ask in (pf.is_emergency_save, pf.should_stop):
        step = job.word("control", word.EMERGENCY) + 2
        job.tell(word.EMERGENCY, step)
        assert not ask()
        assert job.word("progress", word.ACKNOWLEDGED) == step


def test_emergency_step_that_has_passed_is_not_acknowledged(job: Run) -> None:
    pf.init()
    for _ in range(2):
        with pf.train_step():
            pass
    job.tell(word.EMERGENCY, 1)
    with pf.train_step():
        assert not pf.is_emergency_save() and not pf.should_stop()
    assert job.word("progress", word.ACKNOWLEDGED) == 0


def test_stop_with_an_emergency_step_saves_first(job: Run) -> None:
    pf.init()
    for number, value in ((word.EMERGENCY, 2), (word.COMMITTED, 2), (word.STOP, 1)):
        job.tell(number, value)
    seen = []
    for _ in range(2):
        with pf.train_step():
            pass
        seen.append((pf.is_emergency_save(), pf.should_stop()))
    assert seen == [(False, False), (True, True)]


def test_aborted_round_stops_without_a_save(job: Run) -> None:
    pf.init()
    job.tell(word.EMERGENCY, 1)
    job.tell(word.ABORTS, 1)
    with pf.train_step():
        pass
    assert (pf.is_emergency_save(), pf.should_stop()) == (False, True)


def test_passed_deadline_stops_without_a_save(job: Run) -> None:
    pf.init()
    job.tell(word.EMERGENCY, 1)
    job.tell(word.DEADLINE, int(time.time() * 1000) - 1)
    with pf.train_step():
        pass
    assert (pf.is_emergency_save(), pf.should_stop()) == (False, True)


def test_answer_about_a_step_never_changes(job: Run) -> None:
    pf.init()
    with pf.train_step():
        assert not pf.is_emergency_save()
    job.tell(word.EMERGENCY, 1)
    assert not pf.should_stop() and not pf.is_emergency_save()
    assert job.word("progress", word.ACKNOWLEDGED) == -1, "the decider has to raise the step"


def test_rank_that_waits_for_a_dead_agent_leaves(job: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("periflow_sdk._agreement.SILENCE_SECONDS", 0.2)
    pf.init()
    job.tell(word.EMERGENCY, 1)
    with pf.train_step():
        pass
    assert (pf.is_emergency_save(), pf.should_stop()) == (False, True)
    assert job.word("progress", word.ACKNOWLEDGED) == -1
    assert job.word("progress", word.WAITING) == 0


def test_stop_is_seen_and_the_agent_knows(job: Run) -> None:
    pf.init()
    assert not pf.should_stop() and job.word("progress", word.STOP_SEEN) == 0
    job.tell(word.STOP, 1)
    assert pf.should_stop() and not pf.is_emergency_save()
    assert job.word("progress", word.STOP_SEEN) == 1


def test_deadline_is_in_unix_seconds(job: Run) -> None:
    pf.init()
    at = int((time.time() + 30) * 1000)
    job.tell(word.DEADLINE, at)
    assert pf.deadline() == at / 1000


def test_emergency_checkpoint_says_so(job: Run) -> None:
    pf.init()
    job.tell(word.COMMITTED, 1)
    (job.checkpoints / "a.bin").write_bytes(b"a")
    with pf.train_step():
        pf.upload_checkpoint()
    (job.checkpoints / "b.bin").write_bytes(b"b")
    with pf.train_step():
        pf.upload_checkpoint()
    assert [r["save"] for r in job.records(kind="checkpoint")] == ["EMERGENCY", "NORMAL"]


def test_control_that_the_agent_made_first_is_kept(job: Run) -> None:
    folder = job.run_dir / "rank-0"
    folder.mkdir()
    (folder / "control").write_bytes(bytes(word.SIZE))
    job.tell(0, word.MAGIC)
    job.tell(word.STOP, 1)
    pf.init()
    assert pf.should_stop()


def test_pages_are_whole_on_the_disk_before_training_starts(job: Run) -> None:
    pf.init()
    for name in ("progress", "control"):
        status = (job.run_dir / "rank-0" / name).stat()
        assert status.st_size == word.SIZE and status.st_blocks * 512 >= word.SIZE
        assert job.word(name, 0) == word.MAGIC


def test_next_process_of_the_rank_starts_with_fresh_progress(job: Run) -> None:
    job.script("import periflow_sdk as pf; pf.init(9)\nwith pf.train_step(): pass")
    pf.init(total_train_steps=7)
    assert job.word("progress", word.FINISHED) == 0
    assert job.word("progress", word.TOTAL) == 7
    assert job.word("progress", word.STATE) == word.RUNNING
    assert job.word("progress", word.PID) == os.getpid()
