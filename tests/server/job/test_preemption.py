"""Notices, what becomes of the attempt that heard one, and of its job."""

from __future__ import annotations

from typing import Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError

SAVED = "the node was taken; saved at step 7"


def preempt(desk: Any, job: m.Job, **options: Any) -> m.Job:
    preempted: m.Job = desk.api.preempt_job(desk.project, job.number, **options)
    return preempted


def test_running_job_is_told_of_a_preemption_with_the_time_it_has_left(desk: Any) -> None:
    job, agent = desk.running()
    assert agent.beat() == m.AgentOrders()
    assert preempt(desk, job, grace_seconds=20).status == "running"
    orders = agent.beat()
    assert (orders.preempt, orders.stop) == (True, False)
    assert 15 < orders.grace_seconds <= 20
    assert desk.kinds(job.number).count("notice") == 1


def test_second_notice_only_brings_the_deadline_nearer(desk: Any) -> None:
    job, agent = desk.running()
    preempt(desk, job, grace_seconds=20)
    preempt(desk, job, grace_seconds=60)
    assert agent.beat().grace_seconds <= 20
    preempt(desk, job, grace_seconds=5)
    assert agent.beat().grace_seconds <= 5
    assert desk.kinds(job.number).count("notice") == 1


def test_job_that_does_not_run_cannot_be_preempted(desk: Any) -> None:
    running, agent = desk.running(num_devices=desk.quota())
    waiting = desk.submit(num_devices=desk.quota())
    agent.finish()
    for job in (running, waiting):
        desk.wait_for(lambda: desk.job(waiting.number).status == "allocating")
        with pytest.raises(ConflictError) as refused:
            preempt(desk, job)
        assert refused.value.code == "job_not_running"


def test_preempted_job_goes_on_at_once_from_its_newest_checkpoint(desk: Any) -> None:
    job, agent = desk.running(restart={"backoff_seconds": 600})
    agent.checkpoint(3, desk.snapshot())
    preempt(desk, job)
    agent.beat(step=7, total_steps=100)
    agent.checkpoint(7, desk.snapshot())
    agent.finish("preempted", 0, reason=SAVED)
    second = desk.agent(job, attempt=2)
    assert second.api.assignment().restore.step == 7
    detail = desk.job(job.number)
    assert [(one.status, one.reason, one.exit_code) for one in detail.attempts] == [
        ("preempted", SAVED, 0),
        ("allocating", None, None),
    ]
    assert "from the checkpoint of step 7" in next(
        event.message for event in reversed(detail.events) if event.kind == "waiting"
    )


def test_preemptions_with_notice_use_up_no_attempts(desk: Any) -> None:
    job, agent = desk.running(restart={"max_attempts": 2})
    for attempt in (2, 3, 4):
        preempt(desk, job)
        agent.finish("preempted", 0, reason=SAVED)
        agent = desk.agent(job, attempt)
        agent.register()
        agent.beat()
    agent.finish("exited", 0)
    assert desk.job(job.number).status == "success"


def test_exit_code_that_asks_for_a_restart_without_any_notice_is_counted(desk: Any) -> None:
    job, agent = desk.running(restart={"max_attempts": 2, "backoff_seconds": 0})
    agent.finish("preempted", 75)
    desk.agent(job, attempt=2).finish("preempted", 75)
    failed = desk.job(job.number)
    assert (failed.status, failed.reason) == (
        "failed",
        "preempted: its node was taken; this was attempt 2 of 2, preemptions apart",
    )


def test_job_file_that_wants_no_restart_ends_with_the_preemption(desk: Any) -> None:
    job, agent = desk.running(restart={"on": ["node-lost"]})
    preempt(desk, job)
    agent.finish("preempted", 0, reason=SAVED)
    assert (desk.job(job.number).status, desk.job(job.number).reason) == (
        "failed",
        f"preempted: {SAVED}",
    )


def test_notice_that_the_node_heard_itself_counts_as_one(desk: Any) -> None:
    job, agent = desk.running(restart={"max_attempts": 1})
    assert agent.beat(notice_age_seconds=2.0).preempt
    agent.finish("preempted", 0, reason=SAVED)
    assert len(desk.wait_for(lambda: desk.job(job.number).attempts)) >= 1
    desk.agent(job, attempt=2)


def test_stopped_job_ends_stopped_whatever_its_ranks_saved(desk: Any) -> None:
    job, agent = desk.running()
    agent.beat(step=7, total_steps=100)
    desk.api.stop_job(desk.project, job.number)
    orders = agent.beat()
    assert (orders.stop, orders.preempt, orders.grace_seconds) == (True, False, None)
    agent.finish("preempted", 0, reason=SAVED)
    assert desk.job(job.number).status == "stopped"
    assert len(desk.job(job.number).attempts) == 1


def test_preempted_job_that_is_then_stopped_does_not_go_on(desk: Any) -> None:
    job, agent = desk.running()
    preempt(desk, job)
    desk.api.stop_job(desk.project, job.number)
    orders = agent.beat()
    assert (orders.stop, orders.preempt) == (True, False)
    agent.finish("preempted", 0, reason=SAVED)
    assert desk.job(job.number).status == "stopped"


@pytest.mark.parametrize("is_second", [True, False])
def test_second_stop_or_one_with_now_waits_for_nothing(desk: Any, is_second: bool) -> None:
    job, agent = desk.running()
    desk.api.stop_job(desk.project, job.number, now=not is_second)
    if is_second:
        desk.api.stop_job(desk.project, job.number)
    assert agent.beat().grace_seconds == 0
    agent.finish("stopped", 137)


def test_job_shows_how_far_its_checkpoints_are_behind(desk: Any) -> None:
    job, agent = desk.running()
    assert desk.job(job.number).steps_not_durable is None
    agent.beat(step=5)
    assert desk.job(job.number).steps_not_durable == 5
    agent.checkpoint(5, desk.snapshot())
    agent.beat(step=8)
    assert desk.job(job.number).steps_not_durable == 3
    assert desk.job(job.number).notice_to_durable_seconds is None


def test_job_shows_how_long_its_emergency_checkpoint_took_from_the_notice(desk: Any) -> None:
    job, agent = desk.running()
    agent.beat(step=5, notice_age_seconds=4.0)
    agent.api.start_checkpoint(
        m.CheckpointStart(upload_id="one", step=5, save_type="EMERGENCY", size=1)
    )
    agent.api.commit_checkpoint("one", m.CheckpointCommit(snapshot_id=desk.snapshot()))
    detail = desk.job(job.number)
    assert 4.0 <= detail.notice_to_durable_seconds < 60
    assert detail.steps_not_durable == 0


def test_assignment_names_older_checkpoints_in_case_the_newest_is_damaged(desk: Any) -> None:
    job, agent = desk.running()
    for step in (1, 2, 3):
        agent.checkpoint(step, desk.snapshot())
    preempt(desk, job)
    agent.finish("preempted", 0)
    given = desk.agent(job, attempt=2).api.assignment()
    assert given.restore.step == 3
    assert [point.step for point in given.older] == [2, 1]
