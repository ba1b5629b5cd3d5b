"""What the control plane promises its agents."""

from __future__ import annotations

from typing import Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import (
    ConflictError,
    ForbiddenError,
    LoginRequiredError,
    NotFoundError,
    PeriFlowError,
)


def test_every_call_may_be_repeated(desk: Any) -> None:
    job, agent = desk.running()
    assert agent.register() == agent.register()
    for _ in range(2):
        agent.beat(step=5)
        agent.api.report_event(m.AgentEvent(kind="warning", message="the image is not used"))
    first = agent.checkpoint(5, desk.snapshot())
    assert agent.checkpoint(5, desk.snapshot()) == first
    detail = desk.job(job.number)
    assert [event.kind for event in detail.events].count("warning") == 1
    assert [event.kind for event in detail.events].count("running") == 1
    assert [one.id for one in detail.checkpoints] == [first.id]


def test_texts_and_numbers_that_a_database_has_not_break_nothing(desk: Any) -> None:
    job, agent = desk.running()
    agent.api.report_event(m.AgentEvent(kind="warning", message="a\0b \N{SNOWMAN}"))
    agent.journal({"t": "metric", "s": 1, "w": 1.0, "m": {"lo\0ss": 1.0, "text": "a\0b"}})
    agent.journal({"t": "config", "c": {"a\0b": "c\0d"}})
    agent.print(b"zero \0 and \xff\n")
    assert any(event.message.startswith("a") for event in desk.job(job.number).events)
    assert len(desk.texts(job.number)) == 1
    with pytest.raises(NotFoundError):
        desk.job("no\0job")
    for wrong in ({"exit_code": 1 << 40}, {"exit_code": 1 << 70}):
        with pytest.raises(PeriFlowError) as refused:
            agent.api.finish_attempt(m.AgentFinish.model_construct(outcome="exited", **wrong))
        assert refused.value.code == "invalid_request"
    agent.finish()
    assert desk.job(job.number).status == "success"


def test_ended_attempt_is_refused_everywhere(desk: Any) -> None:
    _, agent = desk.running()
    agent.finish()
    calls = [
        agent.api.assignment,
        agent.register,
        agent.beat,
        agent.finish,
        lambda: agent.print("late\n"),
        lambda: agent.metrics(range(1, 2)),
        lambda: agent.checkpoint(1, "0" * 64),
        lambda: agent.api.report_event(m.AgentEvent(kind="warning", message="late")),
    ]
    for call in calls:
        with pytest.raises(ConflictError) as refused:
            call()
        assert refused.value.code == "attempt_superseded"


def test_assignment_has_what_the_job_named_when_it_was_created(desk: Any) -> None:
    snapshot = desk.snapshot()
    body = m.DatasetCreate(name="digits", snapshot_id=snapshot)
    dataset = desk.api.create_dataset(desk.project, body)
    job = desk.submit(data=[{"name": "digits", "mount_path": "/data"}])
    desk.api.delete_dataset(desk.project, "digits")
    given = desk.agent(job).api.assignment()
    assert given.data == [
        m.DataMount(
            name="digits",
            snapshot_id=snapshot,
            mount_path="/data",
            dataset_id=dataset.id,
            version=1,
        )
    ]
    assert (given.job, given.attempt, given.node_rank, given.num_nodes) == (job.number, 1, 0, 1)
    assert (given.devices_per_node, given.device) == (1, "cpu")
    assert given.restore is None


def test_input_checkpoint_is_restored_by_the_first_attempt(desk: Any) -> None:
    _, agent = desk.running()
    snapshot = desk.snapshot()
    ready = agent.checkpoint(7, snapshot)
    agent.finish()
    job = desk.submit(checkpoint={"input": {"id": ready.id[:13], "mount_path": "/in"}})
    restore = desk.agent(job).api.assignment().restore
    assert restore == m.RestorePoint(checkpoint_id=ready.id, snapshot_id=snapshot, step=7)


def test_job_token_does_nothing_beyond_its_job(desk: Any) -> None:
    job, agent = desk.running()
    for call in (
        lambda: agent.api.create_job(desk.project, m.JobCreate(spec=agent.api.assignment().spec)),
        lambda: agent.api.stop_job(desk.project, job.number),
        lambda: agent.api.jobs(desk.project),
    ):
        with pytest.raises(ForbiddenError):
            call()
    with pytest.raises(LoginRequiredError):
        desk.api.assignment()
    with ApiClient(desk.server.url, "pf_jt_wrong") as stranger, pytest.raises(LoginRequiredError):
        stranger.assignment()


def test_token_of_a_node_is_readable_by_its_owner_only(desk: Any) -> None:
    _, agent = desk.running()
    assert (agent.folder / "token").stat().st_mode & 0o777 == 0o600
    assert agent.folder.stat().st_mode & 0o777 == 0o700
