"""Runs that were started outside: jobs without devices, and what ended jobs had left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError
from periflow_server.db.base import Database
from periflow_server.db.schema import import_tables
from periflow_server.scheduler import Scheduler
from periflow_server.settings import Settings
from periflow_server.storage.folder import FolderStore

AGENT_FOLDER = Path("/nonexistent")


def body(run_id: str | None = None, **changes: Any) -> m.AttachedJobCreate:
    fields = {"name": "train", "command": "python train.py", "hostname": "laptop", **changes}
    return m.AttachedJobCreate(run_id=run_id or os.urandom(16).hex(), **fields)


def agent_of(desk: Any, given: m.AttachedJob, agent_type: Any) -> Any:
    return agent_type(ApiClient(desk.server.url, given.token), AGENT_FOLDER)


@pytest.fixture
def agent_type(desk: Any) -> Any:
    """The scripted agent's class."""
    _, agent = desk.running()
    agent.finish()
    return type(agent)


def test_an_attached_run_is_a_running_job_that_holds_no_devices(desk, agent_type):
    before = desk.api.vm_types(desk.project)[0].available
    given = desk.api.attach_job(desk.project, body(num_ranks=2))
    assert (given.job.status, given.job.vm, given.ended) == ("running", "attached", False)
    assert desk.api.vm_types(desk.project)[0].available == before

    agent = agent_of(desk, given, agent_type)
    agent.metrics(range(1, 4))
    assert agent.beat(step=3, total_steps=3) == m.AgentOrders()
    agent.checkpoint(3, desk.snapshot())
    agent.finish()
    job = desk.job(given.job.number)
    assert (job.status, job.step, job.checkpoints[0].status) == ("success", 3, "ready")
    assert desk.series(job.number).steps == [1, 2, 3]


def test_the_same_run_has_one_job_however_often_it_asks(desk):
    asked = body()
    first, second = (desk.api.attach_job(desk.project, asked) for _ in range(2))
    assert first.job.id == second.job.id
    assert desk.api.attach_job(desk.project, body()).job.id != first.job.id


def test_an_attached_run_is_told_to_stop(desk, agent_type):
    given = desk.api.attach_job(desk.project, body())
    desk.api.stop_job(desk.project, given.job.number)
    agent = agent_of(desk, given, agent_type)
    assert agent.beat().stop
    agent.finish("stopped", None)
    assert desk.job(given.job.number).status == "stopped"


def test_what_an_ended_job_left_is_taken_once_and_changes_no_status(desk, agent_type):
    job, agent = desk.running()
    agent.metrics(range(1, 3))
    agent.finish("error", None, reason="gone")
    with pytest.raises(ConflictError, match="superseded"):
        agent.metrics(range(3, 5))

    given = desk.api.sync_job(desk.project, job.number, m.SyncRequest(attempt=1))
    assert given.ended
    late = agent_of(desk, given, agent_type)
    late.offsets = dict(agent.offsets)
    late.metrics(range(3, 5))
    with pytest.raises(ConflictError) as refused:
        late.api.ship_journal(0, "1-1", 0, b'{"t":"step","s":1,"w":1,"d":1}\n')
    assert refused.value.data["offset"] == late.offsets[0, "1-1"]
    late.checkpoint(4, desk.snapshot())
    late.beat()
    late.finish()
    seen = desk.job(job.number)
    assert (seen.status, seen.attempts[0].status) == ("failed", "failed")
    assert desk.series(job.number).steps == [1, 2, 3, 4]
    assert [c.status for c in seen.checkpoints] == ["ready"]
    with pytest.raises(ConflictError):
        late.metrics(range(5, 6))


def test_a_job_that_runs_is_not_synced_from_outside(desk):
    job, _ = desk.running()
    with pytest.raises(ConflictError) as refused:
        desk.api.sync_job(desk.project, job.number, m.SyncRequest(attempt=1))
    assert refused.value.code == "job_running"


def test_sync_names_what_there_is_not(desk):
    job, agent = desk.running()
    agent.finish()
    for wrong in (m.SyncRequest(attempt=2), m.SyncRequest(attempt=1, node=5)):
        with pytest.raises(NotFoundError):
            desk.api.sync_job(desk.project, job.number, wrong)


def test_a_silent_attached_run_is_given_up_and_goes_on_when_it_is_back(
    desk: Any, agent_type: Any
) -> None:
    asked = body()
    given = desk.api.attach_job(desk.project, asked)
    _watch_until_lost(desk, given.job.number)
    job = desk.job(given.job.number)
    assert (job.status, job.attempts[0].status) == ("failed", "node-lost")
    assert "laptop" in (job.reason or "")

    again = desk.api.attach_job(desk.project, asked)
    assert (again.job.id, again.job.status, again.ended) == (given.job.id, "running", False)
    agent_of(desk, again, agent_type).finish()
    assert desk.job(given.job.number).status == "success"


def _watch_until_lost(desk: Any, number: int) -> None:
    """A second scheduler on the same database, with little patience."""
    import_tables()
    database = Database(desk.server.database_url)
    settings = Settings(data_dir=desk.server.data_dir, executor="none", foreign_lease_seconds=0.1)
    watcher = Scheduler(database, FolderStore(desk.server.data_dir / "storage"), settings)
    watch: Callable[[], None] = watcher._watch
    try:
        desk.wait_for(lambda: watch() or desk.job(number).status == "failed")
    finally:
        database.close()


def test_system_of_the_machine_and_its_metrics_stand_apart(desk):
    job, agent = desk.running()
    agent.metrics(range(1, 3))
    git = m.GitState(commit="c" * 40, branch="main", dirty=True, diff_bytes=12)
    machine = m.NodeSystem(
        hostname="h", os="Linux", cpu="x", cpu_count=2, memory_bytes=1, git=git, packages={"a": "1"}
    )
    agent.api.report_system(machine)
    record = {"t": "metric", "s": 2, "w": 1.0, "m": {"system/memory_bytes": 5}}
    agent.journal(record, rank=-1, segment="s")

    system = desk.job(job.number).system
    assert system.git == git
    assert [(node.hostname, node.packages) for node in system.nodes] == [("h", {"a": "1"})]
    assert [name.name for name in desk.api.metric_names(desk.project, job.number)] == ["loss"]
    every = desk.api.metric_names(desk.project, job.number, system=True)
    assert {name.name: name.ranks for name in every} == {"loss": [0], "system/memory_bytes": [-1]}
    assert desk.series(job.number, "system/memory_bytes", rank=-1).values == [5.0]


def test_a_job_keeps_the_state_of_its_code(desk):
    spec = desk.running()[0]
    git = m.GitState(commit="c" * 40)
    create = m.JobCreate(spec=desk.job(spec.number).spec, git=git)
    made = desk.api.create_job(desk.project, create)
    desk.wait_for(lambda: desk.job(made.number).attempts)
    assert desk.job(made.number).system.git == git


def test_a_run_without_a_proper_name_is_refused(desk):
    wrong = body().model_copy(update={"run_id": "../x"})
    with pytest.raises(InvalidRequestError):
        desk.api.attach_job(desk.project, wrong)
