"""Jobs as a user sees them."""

from __future__ import annotations

from typing import Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError

SPEC = {
    "vm": "local-cpu",
    "num_devices": 1,
    "job_setting": {"docker": {"image": "none", "command": "true"}},
}


def test_job_goes_through_its_statuses_and_ends_with_success(desk: Any) -> None:
    job = desk.submit()
    assert (job.number, job.status, job.name) == (1, "waiting", "train")
    agent = desk.agent(job)
    assert desk.job(1).status == "allocating"
    assert agent.register().ready
    assert desk.job(1).status == "preparing"
    agent.beat("running", step=3, total_steps=10)
    assert (desk.job(1).status, desk.job(1).step, desk.job(1).total_steps) == ("running", 3, 10)
    agent.beat("running", step=10)
    agent.finish()
    ended = desk.job("latest")
    assert (ended.status, ended.reason, ended.exit_code, ended.step) == ("success", None, 0, 10)
    assert desk.kinds(1) == ["waiting", "allocating", "preparing", "running", "success"]
    assert [one.status for one in ended.attempts] == ["success"]
    assert ended.started_at and ended.finished_at and ended.started_at <= ended.finished_at


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [(3, "exited with code 3"), (137, "killed by signal 9 (SIGKILL)"), (255, "exited with code")],
)
def test_failed_job_says_how_it_ended_and_shows_its_last_lines(
    desk: Any, exit_code: int, reason: str
) -> None:
    job, agent = desk.running()
    agent.print("".join(f"line {n}\n" for n in range(30)) + "Traceback: no newline at the end")
    agent.finish(exit_code=exit_code, log_tail=["what the agent saw"])
    failed = desk.job(job.number)
    assert (failed.status, failed.exit_code) == ("failed", exit_code)
    assert failed.reason and failed.reason.startswith(reason)
    assert failed.log_tail[-2:] == ["line 29", "Traceback: no newline at the end"]
    assert len(failed.log_tail) == 20


def test_exit_with_code_0_before_the_last_step_is_a_failure(desk: Any) -> None:
    job, agent = desk.running()
    agent.beat(step=40, total_steps=100)
    agent.finish()
    ended = desk.job(job.number)
    assert (ended.status, ended.exit_code) == ("failed", 0)
    assert ended.reason == ended.attempts[0].reason == "exited at step 40 of 100"


def test_early_end_that_was_meant_is_a_success_and_says_so(desk: Any) -> None:
    job, agent = desk.running()
    agent.beat(step=40, total_steps=100)
    agent.finish("exited", 0, finished_early=True)
    ended = desk.job(job.number)
    assert (ended.status, ended.exit_code) == ("success", 0)
    assert ended.reason == ended.attempts[0].reason == "finished early at step 40 of 100"
    assert "it finished early" in ended.events[-1].message


def test_early_end_is_none_after_the_last_step_or_with_another_exit_code(desk: Any) -> None:
    job, agent = desk.running()
    agent.beat(step=100, total_steps=100)
    agent.finish("exited", 0, finished_early=True)
    assert (desk.job(job.number).status, desk.job(job.number).reason) == ("success", None)
    job, agent = desk.running()
    agent.beat(step=40, total_steps=100)
    agent.finish("exited", 1, finished_early=True)
    assert (desk.job(job.number).status, desk.job(job.number).exit_code) == ("failed", 1)


def test_exit_with_code_0_is_success_where_no_total_is_known(desk: Any) -> None:
    job, agent = desk.running()
    agent.beat(step=40)
    agent.finish()
    assert desk.job(job.number).status == "success"


def test_job_that_never_ran_fails_with_the_agents_reason(desk: Any) -> None:
    job, agent = desk.running()
    agent.finish("error", None, reason="no namespaces are allowed here.")
    assert desk.job(job.number).reason == "no namespaces are allowed here"


def test_waiting_job_stops_at_once_and_a_running_one_through_its_agent(desk: Any) -> None:
    running, agent = desk.running(num_devices=desk.quota())
    waiting = desk.submit(num_devices=desk.quota())
    assert desk.api.stop_job(desk.project, waiting.number).status == "stopped"
    assert desk.job(waiting.number).attempts == []
    assert agent.beat().stop is False
    assert desk.api.stop_job(desk.project, running.number).status == "stopping"
    assert agent.beat().stop is True
    agent.finish("stopped", 143)
    assert desk.job(running.number).status == "stopped"
    with pytest.raises(ConflictError) as refused:
        desk.api.stop_job(desk.project, running.number)
    assert refused.value.code == "job_finished"


def test_command_that_dies_of_being_stopped_was_stopped_not_failed(desk: Any) -> None:
    job, agent = desk.running()
    desk.api.stop_job(desk.project, job.number)
    agent.finish("exited", 143)
    assert desk.job(job.number).status == "stopped"


def test_job_is_found_by_number_name_id_prefix_and_latest(desk: Any) -> None:
    first = desk.submit(name="alpha")
    second = desk.submit(name="beta")
    for text in (1, "1", "alpha", first.id, first.id[:13]):
        assert desk.job(text).id == first.id
    assert desk.job("latest").id == second.id
    digits = [str(number) for number in range(3, 20)]  # of which some begin an id
    for text in (*digits, "gamma", "zzzz", "%", "_"):
        with pytest.raises(NotFoundError) as missing:
            desk.job(text)
        assert missing.value.code == "job_not_found"


def test_ambiguous_name_takes_none_and_names_the_candidates(desk: Any) -> None:
    desk.submit(name="same")
    desk.submit(name="same")
    with pytest.raises(ConflictError) as ambiguous:
        desk.job("same")
    assert ambiguous.value.code == "ambiguous"
    assert ambiguous.value.data["candidates"] == [2, 1]


def test_numbers_count_up_in_each_project_and_lists_are_newest_first(desk: Any) -> None:
    assert [desk.submit().number for _ in range(3)] == [1, 2, 3]
    other = desk.server.client()
    created = other.create_job(other.project, m.JobCreate(spec=JobSpec.model_validate(SPEC)))
    assert created.number == 1
    other.stop_job(other.project, 1)
    assert [job.number for job in desk.api.jobs(desk.project)] == [3, 2, 1]
    assert [job.number for job in desk.api.jobs(desk.project, limit=2)] == [3, 2]
    with pytest.raises(NotFoundError):
        other.job(desk.project, 1)


def test_list_has_the_jobs_that_fit_on_every_page(desk: Any) -> None:
    names = ("train", "other", "train", "train")
    first, _, third, fourth = [desk.submit(name=name) for name in names]
    desk.api.stop_job(desk.project, first.number)

    def numbers(limit: int | None = None, **where: Any) -> list[int]:
        chosen = m.JobFilter.model_validate(where)
        return [job.number for job in desk.api.jobs(desk.project, limit=limit, where=chosen)]

    assert numbers(name="train") == [4, 3, 1]
    assert numbers(2, name="train") == [4, 3]
    assert numbers(status=["stopping", "stopped"]) == [1]
    assert numbers(status=["stopped", "stopping"], name="other") == []
    assert numbers(vm="local-cpu", mine=True) == [4, 3, 2, 1]
    assert numbers(vm="local-gpu") == []
    assert numbers(since=third.created_at) == [4, 3]
    assert numbers(since=third.created_at, until=third.created_at) == [3]
    path, adder = f"projects/{desk.project}/jobs", "limit=1&name=train&until="
    moment = fourth.created_at.isoformat().replace("+00:00", "Z")
    page = desk.api._request("GET", f"{path}?{adder}{moment}").json()
    assert [job["number"] for job in page["items"]] == [4]
    page = desk.api._request("GET", f"{path}?{adder}{moment}&cursor={page['next_cursor']}").json()
    assert [job["number"] for job in page["items"]] == [3]
    for wrong in ("status=over", "since=2030-01-31T12:00", "since=0001-01-01T00:00:00%2B14:00"):
        with pytest.raises(InvalidRequestError):
            desk.api._request("GET", f"{path}?{wrong}")


def test_pages_of_jobs_join_without_gap_or_repeat(desk: Any) -> None:
    for _ in range(5):
        desk.submit()
    numbers, cursor = [], None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = desk.api._request("GET", f"projects/{desk.project}/jobs", params=params).json()
        numbers += [job["number"] for job in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert numbers == [5, 4, 3, 2, 1]


def test_unknown_vm_is_refused_with_the_known_ones(desk: Any) -> None:
    with pytest.raises(NotFoundError) as unknown:
        desk.submit(vm="azure-a100")
    assert unknown.value.code == "vm_unknown"
    assert "local-cpu" in unknown.value.data["vms"]
    assert "--vm local-cpu" in (unknown.value.hint or "")


def test_more_devices_than_there_are_is_refused_at_once(desk: Any) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        desk.submit(num_devices=desk.quota() + 1)
    assert refused.value.code == "quota_exceeded"
    assert desk.api.jobs(desk.project) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data": [{"name": "nothing", "mount_path": "/data"}]}, "dataset_not_found"),
        ({"checkpoint": {"input": {"id": "dead", "mount_path": "/in"}}}, "checkpoint_not_found"),
    ],
)
def test_job_that_names_what_does_not_exist_is_refused(
    desk: Any, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(NotFoundError) as missing:
        desk.submit(**changes)
    assert missing.value.code == code


@pytest.mark.parametrize("name", ["latest", "5"])
def test_name_that_would_mean_another_job_is_refused(desk: Any, name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        desk.submit(name=name)
    assert caught.value.code == "invalid_name"


def test_job_with_a_workspace_that_was_never_uploaded_is_refused(desk: Any) -> None:
    workspace = m.Workspace(snapshot_id="0" * 64, name="code")
    spec = JobSpec.model_validate(SPEC)
    with pytest.raises(NotFoundError) as missing:
        desk.api.create_job(desk.project, m.JobCreate(spec=spec, workspace=workspace))
    assert missing.value.code == "snapshot_not_found"


def test_same_delivery_twice_creates_one_job(desk: Any) -> None:
    body = m.JobCreate(spec=JobSpec.model_validate(SPEC)).model_dump(mode="json")
    path, headers = f"projects/{desk.project}/jobs", {"Idempotency-Key": "once"}
    answers = [desk.api._request("POST", path, json=body, headers=headers) for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert len(desk.api.jobs(desk.project)) == 1


def test_vm_list_shows_what_running_jobs_leave(desk: Any) -> None:
    before = next(vm for vm in desk.api.vm_types(desk.project) if vm.vm == "local-cpu")
    assert (before.cloud, before.region, before.device) == ("local", "-", "cpu")
    assert before.available == before.quota == before.devices_per_node
    desk.running(num_devices=1)
    after = next(vm for vm in desk.api.vm_types(desk.project) if vm.vm == "local-cpu")
    assert after.available == before.quota - 1
