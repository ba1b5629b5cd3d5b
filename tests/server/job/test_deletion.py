"""Deleted jobs and checkpoints: gone for everybody at once, and never what others need."""

from __future__ import annotations

import os
from typing import Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import ConflictError, NotFoundError, PeriFlowError


def ended(desk: Any, *steps: int) -> tuple[m.Job, list[m.Checkpoint]]:
    """A job that has left metrics, output and checkpoints of these steps."""
    job, agent = desk.running()
    agent.metrics(range(1, 4))
    agent.print("hello\n")
    checkpoints = [agent.checkpoint(step, desk.snapshot()) for step in steps]
    agent.finish()
    return job, checkpoints


def given(checkpoint: m.Checkpoint) -> dict[str, Any]:
    """The section of a job file that starts from a checkpoint."""
    return {"input": {"id": checkpoint.id, "mount_path": "/in"}, "output_checkpoint_dir": "/out"}


def refusal(call: Any, *words: Any, **options: Any) -> PeriFlowError:
    with pytest.raises(ConflictError) as caught:
        call(*words, **options)
    return caught.value


def test_deleted_job_is_nowhere_and_its_number_is_not_given_again(desk: Any) -> None:
    api, project = desk.api, desk.project
    kept, _ = ended(desk, 1)
    job, (checkpoint,) = ended(desk, 2)
    used = api.usage(api.organization)
    late = api.sync_job(project, job.number, m.SyncRequest(attempt=1)).token
    api.delete_job(project, job.number, dry_run=True)
    assert desk.job(job.number).number == job.number
    api.delete_job(project, str(job.number))

    assert [each.number for each in api.jobs(project)] == [kept.number]
    assert [each.job for each in api.checkpoints(project)] == [kept.number]
    assert desk.job("latest").number == desk.job("train").number == kept.number
    assert api.checkpoint(project, "latest").job == kept.number
    for call, *words in (
        (api.job, job.number),
        (api.job, job.id),
        (api.job_log, job.number),
        (api.metric_names, job.number),
        (api.metric_series, job.number, "loss"),
        (api.checkpoint, checkpoint.id),
        (api.delete_checkpoint, checkpoint.id),
        (api.stop_job, job.number),
        (api.preempt_job, job.number),
        (api.delete_job, job.number),
        (api.sync_job, job.number, m.SyncRequest(attempt=1)),
    ):
        with pytest.raises(NotFoundError) as caught:
            call(project, *words)
        noun = "checkpoint" if "checkpoint" in call.__name__ else "job"
        assert caught.value.code == f"{noun}_not_found"
        assert f"pf {noun} list" in str(caught.value.hint)
    with pytest.raises(NotFoundError):
        api.checkpoints(project, job=job.number)
    with pytest.raises(NotFoundError):
        desk.submit(checkpoint=given(checkpoint))
    with ApiClient(desk.server.url, late) as agent, pytest.raises(PeriFlowError) as refused:
        agent.ship_log(6, b"more\n")
    # The token itself goes in the background.
    assert refused.value.code in ("attempt_superseded", "login_required")
    assert api.usage(api.organization) == used
    assert desk.submit().number == job.number + 1


def test_job_that_has_not_ended_is_not_deleted(desk: Any) -> None:
    running, _ = desk.running(num_devices=desk.quota())
    waiting = desk.submit()
    for job, status in ((running, "running"), (waiting, "waiting")):
        refused = refusal(desk.api.delete_job, desk.project, job.number)
        assert (refused.code, refused.data["status"]) == ("job_running", status)
        assert f"pf job stop {job.number}" in str(refused.hint)


def test_what_an_unfinished_job_starts_from_stays(desk: Any) -> None:
    job, (first, second) = ended(desk, 1, 2)
    reader = desk.submit(checkpoint=given(first))
    for refused in (
        refusal(desk.api.delete_job, desk.project, job.number),
        refusal(desk.api.delete_checkpoint, desk.project, first.id),
    ):
        assert (refused.code, refused.data["used_by"]) == ("checkpoint_in_use", [reader.number])
        assert f"pf job stop {reader.number}" in str(refused.hint)
    desk.api.delete_checkpoint(desk.project, second.id)
    agent = desk.agent(reader)
    assert agent.api.assignment().restore.checkpoint_id == first.id
    agent.register()
    agent.finish()
    desk.api.delete_job(desk.project, job.number)
    assert desk.job(reader.number).status == "success"


def test_running_job_keeps_what_it_goes_on_from_and_loses_older_ones(desk: Any) -> None:
    job, agent = desk.running(restart={"backoff_seconds": 0})
    snapshot = desk.snapshot()
    old, new = agent.checkpoint(5, snapshot), agent.checkpoint(6, snapshot)
    agent.checkpoint(5, snapshot, "the same again")
    delete = desk.api.delete_checkpoint
    assert refusal(delete, desk.project, new.id).data["used_by"] == [job.number]
    delete(desk.project, old.id)
    agent.finish("lost", None)

    agent = desk.agent(job, 2)
    assignment = agent.api.assignment()
    assert (assignment.restore.checkpoint_id, assignment.older) == (new.id, [])
    agent.register()
    agent.beat()
    newest = agent.checkpoint(7, snapshot)
    body = m.CheckpointStart(upload_id="open", step=8, save_type="NORMAL", size=10)
    unfinished = agent.api.start_checkpoint(body)
    for each in (new, newest, unfinished):
        assert refusal(delete, desk.project, each.id).code == "checkpoint_in_use"
    assert agent.api.assignment().restore.checkpoint_id == new.id
    agent.finish()
    for each in (newest, unfinished):
        delete(desk.project, each.id)
    assert [each.id for each in desk.job(job.number).checkpoints] == [new.id]
    assert desk.api.checkpoint(desk.project, "latest").id == new.id
    assert desk.kinds(job.number).count("deletion") == 3


def test_run_that_comes_back_after_its_job_was_deleted_is_another_job(desk: Any) -> None:
    run = m.AttachedJobCreate(
        run_id=os.urandom(16).hex(), name="run", command="python train.py", hostname="laptop"
    )
    job = desk.api.attach_job(desk.project, run).job
    assert refusal(desk.api.delete_job, desk.project, job.number).code == "job_running"
    token = desk.api.attach_job(desk.project, run).token
    with ApiClient(desk.server.url, token) as agent:
        agent.finish_attempt(m.AgentFinish(outcome="exited", exit_code=0))
        desk.api.delete_job(desk.project, job.number)
    again = desk.api.attach_job(desk.project, run)
    assert (again.job.number, again.ended) == (job.number + 1, False)


@pytest.mark.postgresql
def test_checkpoint_is_deleted_or_given_to_a_job_but_never_both(pair: Any, desk_at: Any) -> None:
    desk = desk_at(pair.servers[0], pair.clients[0])
    for _ in range(3):
        run = m.AttachedJobCreate(
            run_id=os.urandom(16).hex(), name="run", command="python", hostname="laptop"
        )
        attached = desk.api.attach_job(desk.project, run)
        with ApiClient(desk.server.url, attached.token) as agent:
            body = m.CheckpointStart(upload_id="one", step=5, save_type="NORMAL", size=10)
            checkpoint = agent.start_checkpoint(body)
            agent.commit_checkpoint("one", m.CheckpointCommit(snapshot_id=desk.snapshot()))
            agent.finish_attempt(m.AgentFinish(outcome="exited", exit_code=0))

        def contend(client: Any, number: int, checkpoint: m.Checkpoint = checkpoint) -> Any:
            if number % 4 < 2:
                return desk_at(None, client).submit(checkpoint=given(checkpoint))
            return client.delete_checkpoint(client.project, checkpoint.id)

        results = pair.at_once(contend, 8)
        has_job = any(isinstance(each, m.Job) for each in results)
        is_deleted = None in results
        assert has_job != is_deleted, results
        codes = {each.code for each in results if isinstance(each, PeriFlowError)}
        assert codes <= {"checkpoint_in_use" if has_job else "checkpoint_not_found"}
        desk.clear()
