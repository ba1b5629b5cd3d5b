"""Jobs as a user sees them."""

from __future__ import annotations

from typing import Any

import pytest

from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError


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
