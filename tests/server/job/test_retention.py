"""Retention rules: what none of them keeps goes by itself, and never what somebody needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import NotFoundError, PeriFlowError


def steps(desk: Any, job: m.Job) -> list[int]:
    return [each.step for each in desk.api.checkpoints(desk.project, job=job.number)]


def removals(desk: Any, job: m.Job) -> list[str]:
    events = desk.job(job.number).events
    return [event.message for event in events if event.kind == "retention"]


def accuracy(agent: Any, step: int, value: Any) -> None:
    agent.journal({"t": "metric", "s": step, "w": 1e9, "m": {"acc": value}})


def test_checkpoint_stays_if_any_rule_keeps_it(desk: Any) -> None:
    best = {"metric": "acc", "mode": "max", "count": 1}
    rules = {"keep_last": 2, "keep_every": 100, "keep_best": best}
    job, agent = desk.running(retention=rules)
    snapshot = desk.snapshot()
    for step in (40, 60, 80, 120, 160):
        agent.checkpoint(step, snapshot)
    # Metrics may come after the checkpoints of their steps; of step 60 none ever comes.
    for step, value in ((40, 0.5), (80, 0.9), (120, 0.1), (160, "NaN"), (200, 0.3)):
        accuracy(agent, step, value)
    agent.checkpoint(200, snapshot)
    agent.checkpoint(240, snapshot)
    desk.wait_for(lambda: steps(desk, job) == [240, 200, 120, 80, 60])
    why = "was removed: keep_last 2, keep_every 100, keep_best 1 by max acc."
    assert removals(desk, job) == [f"The checkpoint of step {step} {why}" for step in (40, 160)]
    assert "warning" not in desk.kinds(job.number)
    accuracy(agent, 240, 0.95)
    agent.finish()
    desk.wait_for(lambda: steps(desk, job) == [240, 200, 120, 60])
    warnings = [e.message for e in desk.job(job.number).events if e.kind == "warning"]
    assert len(warnings) == 1 and "'acc'" in warnings[0]


def test_without_rules_nothing_goes(desk: Any) -> None:
    kept, agent = desk.running()
    _, other = desk.running(retention={"keep_last": 1})
    snapshot = desk.snapshot()
    for step in range(1, 8):
        agent.checkpoint(step, snapshot)
    for step in (1, 2):
        other.checkpoint(step, snapshot)
    desk.wait_for(lambda: len(desk.api.checkpoints(desk.project)) == 8)
    assert len(steps(desk, kept)) == 7


def test_what_somebody_starts_from_stays_and_what_does_not_come_stays_untouched(desk: Any) -> None:
    job, agent = desk.running(retention={"keep_last": 1}, restart={"backoff_seconds": 0})
    snapshot = desk.snapshot()
    first = agent.checkpoint(1, snapshot)
    section = {"input": {"id": first.id, "mount_path": "/in"}, "output_checkpoint_dir": "/out"}
    reader = desk.submit(checkpoint=section)
    desk.agent(reader).finish()
    body = m.CheckpointStart(upload_id="open", step=2, save_type="NORMAL", size=10)
    agent.api.start_checkpoint(body)
    agent.checkpoint(3, snapshot)
    agent.checkpoint(4, snapshot)
    desk.wait_for(lambda: steps(desk, job) == [4, 2, 1])
    agent.finish("lost", None)

    agent = desk.agent(job, 2)
    assert agent.api.assignment().restore.step == 4
    # While it prepares everything stays: what it restores may be damaged.
    agent.checkpoint(5, snapshot)
    agent.register()
    agent.beat()
    agent.checkpoint(6, snapshot)
    desk.wait_for(lambda: steps(desk, job) == [6, 4, 2, 1])
    assert agent.api.assignment().restore.snapshot_id == snapshot
    agent.finish()
    desk.wait_for(lambda: steps(desk, job) == [6, 2, 1])
    desk.api.delete_job(desk.project, reader.number)


def test_killed_server_goes_on_removing_and_frees_the_space(
    start_server: Callable[..., Any], desk_at: Any, chunks: Any
) -> None:
    server = start_server(
        PERIFLOW_SERVER_EXECUTOR="none",
        PERIFLOW_SERVER_COLLECT_SECONDS="0.1",
        PERIFLOW_SERVER_LEASE_SECONDS="3",
    )
    desk = desk_at(server, server.client())
    job, agent = desk.running(retention={"keep_last": 2})
    found = []
    for step in range(1, 6):
        data = b"state of step %d" % step
        snapshot = chunks.snapshot(desk.api, data)
        found.append((agent.checkpoint(step, snapshot.id, f"upload-{step}"), chunks.ref(data)))
    repeated = agent.checkpoint(1, str(found[0][0].snapshot_id), "the same again")
    server.restart()
    desk.reconnect()
    folder = server.data_dir / "storage" / "chunks" / desk.project
    left = {ref.hash for _, ref in found[3:]}
    desk.wait_for(lambda: {p.name for p in folder.rglob("*") if p.is_file()} == left)
    assert steps(desk, job) == [5, 4]
    assert len(removals(desk, job)) == 3 + (repeated.id != found[0][0].id)
    gone = found[0][0]
    with pytest.raises(NotFoundError):
        desk.api.checkpoint(desk.project, gone.id)
    # An agent that has not heard the answer asks again, and neither sends nor publishes anew.
    agent.api = ApiClient(server.url, (agent.folder / "token").read_text())
    body = m.CheckpointStart(upload_id="upload-1", step=1, save_type="NORMAL", size=10)
    assert (again := agent.api.start_checkpoint(body)).status == "ready"
    commit = m.CheckpointCommit(snapshot_id=gone.snapshot_id)
    assert agent.api.commit_checkpoint("upload-1", commit).id == again.id == gone.id
    assert steps(desk, job) == [5, 4]
    agent.finish()
    desk.api.delete_job(desk.project, job.number)
    desk.wait_for(lambda: not (server.data_dir / "jobs" / job.id).exists())


@pytest.mark.postgresql
def test_two_servers_remove_once_and_never_what_a_new_job_is_given(pair: Any, desk_at: Any) -> None:
    desks = [desk_at(*both) for both in zip(pair.servers, pair.clients, strict=True)]
    desk = desks[0]
    job = desk.submit(retention={"keep_last": 1})
    tokens = [s.data_dir / "jobs" / job.id / "1" / "0" / "token" for s in pair.servers]
    desk.wait_for(lambda: any(path.exists() for path in tokens))
    token = next(path for path in tokens if path.exists()).read_text()
    snapshot = desk.snapshot()
    agents = [ApiClient(server.url, token) for server in pair.servers]
    agents[0].heartbeat(m.AgentHeartbeat(phase="running", step=1))

    def save(step: int) -> m.Checkpoint:
        upload, api = f"upload-{step}", agents[step % 2]
        body = m.CheckpointStart(upload_id=upload, step=step, save_type="NORMAL", size=10)
        api.start_checkpoint(body)
        return api.commit_checkpoint(upload, m.CheckpointCommit(snapshot_id=snapshot))

    given = []
    for step in range(1, 30, 3):
        old = save(step)
        section = {"input": {"id": old.id, "mount_path": "/in"}, "output_checkpoint_dir": "/out"}

        def contend(
            client: Any, number: int, step: int = step, section: dict[str, Any] = section
        ) -> Any:
            if number < 2:
                return save(step + 1 + number)
            return desk_at(None, client).submit(checkpoint=section)

        results = pair.at_once(contend, 4)
        codes = {each.code for each in results if isinstance(each, PeriFlowError)}
        assert codes <= {"checkpoint_not_found"}
        if any(isinstance(each, m.Job) for each in results):
            given.append(step)
    desk.wait_for(lambda: steps(desk, job) == sorted({30, *given}, reverse=True))
    assert len(removals(desk, job)) == len(set(removals(desk, job))) == 29 - len(set(given) - {30})
    agents[0].finish_attempt(m.AgentFinish(outcome="exited", exit_code=0))
    for each in agents:
        each.close()
    desk.clear()
