"""Checkpoints as agents commit them and people find them."""

from __future__ import annotations

from typing import Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.errors import InvalidRequestError, NotFoundError


def start(agent: Any, step: int, upload_id: str) -> m.Checkpoint:
    body = m.CheckpointStart(upload_id=upload_id, step=step, save_type="NORMAL", size=10)
    checkpoint: m.Checkpoint = agent.api.start_checkpoint(body)
    return checkpoint


def test_checkpoint_is_shown_while_it_uploads_and_when_it_is_ready(desk: Any) -> None:
    job, agent = desk.running()
    started = start(agent, 5, "one")
    assert (started.status, started.job, started.size) == ("uploading", job.number, 10)
    assert desk.job(job.number).checkpoints[0].status == "uploading"
    snapshot = desk.snapshot()
    agent.api.commit_checkpoint("one", m.CheckpointCommit(snapshot_id=snapshot))
    ready = desk.api.checkpoint(desk.project, started.id)
    assert (ready.status, ready.snapshot_id, ready.size) == ("ready", snapshot, 0)


def test_same_content_of_a_step_uploaded_twice_is_one_checkpoint(desk: Any) -> None:
    job, agent = desk.running()
    snapshot = desk.snapshot()
    first = agent.checkpoint(5, snapshot, "one")
    again = agent.checkpoint(5, snapshot, "two")
    other = agent.checkpoint(6, snapshot, "three")
    assert again.id == first.id != other.id
    assert [one.id for one in desk.api.checkpoints(desk.project)] == [other.id, first.id]
    assert agent.checkpoint(5, snapshot, "two").id == first.id
    assert desk.kinds(job.number).count("checkpoint") == 2


def test_failed_checkpoint_keeps_its_reason_and_may_still_succeed(desk: Any) -> None:
    job, agent = desk.running()
    start(agent, 5, "one")
    agent.api.commit_checkpoint("one", m.CheckpointCommit(failure="the disk is full"))
    failed = desk.job(job.number).checkpoints[0]
    assert (failed.status, failed.reason) == ("failed", "the disk is full")
    agent.checkpoint(5, desk.snapshot(), "one")
    assert desk.job(job.number).checkpoints[0].status == "ready"


def test_commit_of_what_does_not_exist_is_refused(desk: Any) -> None:
    _, agent = desk.running()
    start(agent, 5, "one")
    with pytest.raises(NotFoundError):
        agent.api.commit_checkpoint("two", m.CheckpointCommit(failure="x"))
    with pytest.raises(NotFoundError):
        agent.api.commit_checkpoint("one", m.CheckpointCommit(snapshot_id="0" * 64))
    with pytest.raises(InvalidRequestError):
        agent.api.commit_checkpoint("one", m.CheckpointCommit())


def test_checkpoint_is_found_by_id_prefix_and_latest(desk: Any) -> None:
    job, agent = desk.running()
    snapshot = desk.snapshot()
    old, new = agent.checkpoint(5, snapshot), agent.checkpoint(6, snapshot)
    start(agent, 7, "unfinished")
    assert desk.api.checkpoint(desk.project, old.id[:13]).id == old.id
    assert desk.api.checkpoint(desk.project, "latest").id == new.id
    assert [one.step for one in desk.api.checkpoints(desk.project, job=job.number)] == [7, 6, 5]
    with pytest.raises(NotFoundError) as missing:
        desk.api.checkpoint(desk.project, "zzz")
    assert missing.value.code == "checkpoint_not_found"


def test_pages_of_checkpoints_join_without_gap_or_repeat(desk: Any) -> None:
    _, agent = desk.running()
    snapshot = desk.snapshot()
    for step in range(1, 6):
        agent.checkpoint(step, snapshot)
    steps, cursor = [], None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        path = f"projects/{desk.project}/checkpoints"
        page = desk.api._request("GET", path, params=params).json()
        steps += [one["step"] for one in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert steps == [5, 4, 3, 2, 1]
