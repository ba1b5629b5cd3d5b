"""Who gets devices, in which order, and what happens to attempts that are lost."""

from __future__ import annotations

from typing import Any

import pytest

from periflow_sdk.errors import InvalidRequestError
from periflow_server.services import vm


def status(desk: Any, number: int) -> str:
    return str(desk.job(number).status)


def test_jobs_get_devices_in_the_order_they_came(desk: Any) -> None:
    whole = desk.quota()
    jobs = [desk.submit(num_devices=whole) for _ in range(4)]
    for job in jobs:
        agent = desk.agent(job)
        later = [status(desk, other.number) for other in jobs if other.number > job.number]
        assert later == ["waiting"] * len(later)
        agent.finish()
    assert all(status(desk, job.number) == "success" for job in jobs)


def test_small_job_does_not_overtake_a_large_one(desk: Any) -> None:
    _, holder = desk.running(num_devices=1)
    large = desk.submit(num_devices=desk.quota())
    small = desk.submit(num_devices=1)
    reason = f"Waiting for 1 of {desk.quota()} local-cpu devices: job {large.number} is before it"
    desk.wait_for(lambda: desk.job(small.number).reason == reason)
    assert status(desk, large.number) == "waiting"
    holder.finish()
    desk.agent(large).finish()
    desk.agent(small).finish()
    assert [status(desk, job.number) for job in (large, small)] == ["success", "success"]


def test_waiting_job_says_which_job_holds_the_devices(desk: Any) -> None:
    whole = desk.quota()
    holder, _ = desk.running(num_devices=whole)
    waiting = desk.submit(num_devices=whole)
    said = f"Waiting for {whole} of {whole} local-cpu devices: job {holder.number} uses them."
    desk.wait_for(lambda: said in [e.message for e in desk.job(waiting.number).events])


def test_devices_are_given_out_by_index_and_come_back(desk: Any) -> None:
    agents = [desk.agent(desk.submit(num_devices=1)) for _ in range(desk.quota())]
    given = [agent.api.assignment().devices for agent in agents]
    assert sorted(given) == [[index] for index in range(desk.quota())]
    agents[0].finish()
    again = desk.agent(desk.submit(num_devices=1))
    assert again.api.assignment().devices == given[0]


def test_lost_attempt_starts_again_from_the_newest_checkpoint(desk: Any) -> None:
    job, agent = desk.running(restart={"backoff_seconds": 0})
    snapshot = desk.snapshot()
    agent.checkpoint(10, snapshot)
    agent.checkpoint(20, snapshot)
    agent.beat(step=25, total_steps=100)
    agent.finish("lost", None, reason="the machine was restarted")
    second = desk.agent(job, attempt=2)
    restore = second.api.assignment().restore
    assert restore is not None and (restore.step, restore.snapshot_id) == (20, snapshot)
    detail = desk.job(job.number)
    assert (detail.attempts[0].status, detail.step, detail.status) == (
        "node-lost",
        20,
        "allocating",
    )
    assert any("from the checkpoint of step 20" in event.message for event in detail.events)
    second.register()
    second.beat(step=30)
    assert desk.job(job.number).step == 30
    second.beat(step=100)
    second.finish()
    assert desk.job(job.number).status == "success"


def test_lost_attempts_are_bounded_by_the_job_file(desk: Any) -> None:
    job, agent = desk.running(restart={"max_attempts": 2, "backoff_seconds": 0})
    agent.finish("lost", None)
    desk.agent(job, attempt=2).finish("lost", None)
    failed = desk.job(job.number)
    assert failed.status == "failed"
    assert "attempt 2 of 2" in (failed.reason or "")


def test_job_that_does_not_restart_on_loss_fails(desk: Any) -> None:
    job, agent = desk.running(restart={"on": ["preempted"]})
    agent.finish("lost", None, reason="its node was lost")
    assert desk.job(job.number).status == "failed"


def test_pause_before_a_restart_holds_nobody_up(desk: Any) -> None:
    whole = desk.quota()
    lost, agent = desk.running(num_devices=whole, restart={"backoff_seconds": 3600})
    agent.finish("lost", None)
    desk.agent(desk.submit(num_devices=whole)).finish()
    assert status(desk, lost.number) == "waiting"


def test_lost_attempt_of_a_stopping_job_does_not_start_again(desk: Any) -> None:
    job, agent = desk.running(restart={"backoff_seconds": 0})
    desk.api.stop_job(desk.project, job.number)
    agent.finish("lost", None)
    assert status(desk, job.number) == "stopped"


def pair(**changes: Any) -> dict[str, Any]:
    return {"vm": "local-cpu-pair", "num_devices": 2, **changes}


def test_nodes_of_a_gang_are_placed_together_and_meet_when_all_have_come(desk: Any) -> None:
    job = desk.submit(**pair())
    first, second = desk.agent(job), desk.agent(job, node=1)
    given = [agent.api.assignment() for agent in (first, second)]
    assert [(one.node_rank, one.num_nodes, one.devices_per_node) for one in given] == [
        (0, 2, 1),
        (1, 2, 1),
    ]
    assert len({one.devices[0] for one in given}) == 2
    assert first.register().ready is False
    assert second.register().ready is True
    assert first.register() == second.register()


def test_gang_that_does_not_fit_whole_gets_nothing(desk: Any) -> None:
    holders = [desk.running(num_devices=1)[1] for _ in range(desk.quota() - 1)]
    job = desk.submit(**pair())
    desk.wait_for(lambda: (desk.job(job.number).reason or "").startswith("Waiting for 2 of 2"))
    assert desk.job(job.number).attempts == []
    (shown,) = [vm for vm in desk.api.vm_types(desk.project) if vm.vm == "local-cpu-pair"]
    assert (shown.devices_per_node, shown.quota, shown.available) == (1, 2, 1)
    holders[0].finish()
    desk.agent(job, node=1)
    assert len(desk.job(job.number).attempts) == 1


def test_devices_that_are_not_whole_nodes_are_refused(monkeypatch: Any) -> None:
    big = vm.VmShape("big", "cpu", devices_per_node=4, nodes=3)
    monkeypatch.setattr(vm, "shapes", lambda: {"big": big})
    assert [vm.require_vm("big", n).nodes_for(n) for n in (4, 8, 12)] == [1, 2, 3]
    with pytest.raises(InvalidRequestError, match="6 are not whole nodes") as refused:
        vm.require_vm("big", 6)
    assert "--num-devices 8" in (refused.value.hint or "")
