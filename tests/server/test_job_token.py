"""What the token of a job opens: its own project, and of that what its agent needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import ConflictError, ForbiddenError, LoginRequiredError, NotFoundError
from periflow_server.db.attempt import Attempt
from periflow_server.db.base import Database
from periflow_server.db.job import Job
from periflow_server.services.token import issue_job_token, revoke_job_tokens

if TYPE_CHECKING:
    from conftest import Client, ServerProcess


@pytest.fixture
def owner(server: ServerProcess) -> Client:
    return server.client()


@pytest.fixture
def attempt(owner: Client, database: Database) -> Attempt:
    """An attempt that nobody runs."""
    with database.write() as session:
        job = Job(
            project_id=owner.project,
            number=1,
            name="job",
            status="failed",
            vm="local-cpu",
            device="cpu",
            num_devices=1,
            spec={},
            shell={},
            created_by=owner.session.user.id,
        )
        session.add(job)
        session.flush()
        attempt = Attempt(job_id=job.id, number=1, status="failed")
        session.add(attempt)
    return attempt


@pytest.fixture
def agent(owner: Client, attempt: Attempt, database: Database) -> Iterator[ApiClient]:
    with database.write() as session:
        token = issue_job_token(
            session,
            attempt_id=attempt.id,
            job_id=attempt.job_id,
            project_id=owner.project,
            node_rank=0,
        )
    with ApiClient(owner.url, token) as client:
        yield client


def test_job_reads_and_writes_snapshots_and_reads_datasets_of_its_project(
    owner: Client, agent: ApiClient, chunks: Any
) -> None:
    agent.project = owner.project  # type: ignore[attr-defined]
    snapshot = chunks.snapshot(agent, b"from the job")
    assert agent.manifest(owner.project, snapshot.id)
    assert agent.chunk_sources(owner.project, [chunks.ref(b"from the job")])
    owner.create_dataset(owner.project, m.DatasetCreate(name="d", snapshot_id=snapshot.id))
    assert agent.dataset(owner.project, "d").name == "d"


def test_job_may_do_nothing_else_there(owner: Client, agent: ApiClient, chunks: Any) -> None:
    snapshot = chunks.snapshot(owner)
    with pytest.raises(ForbiddenError):
        agent.create_dataset(owner.project, m.DatasetCreate(name="x", snapshot_id=snapshot.id))
    with pytest.raises(ForbiddenError):
        agent.delete_dataset(owner.project, "x")


def test_token_of_a_job_is_no_login(agent: ApiClient) -> None:
    for ask in (agent.me, agent.organizations):
        with pytest.raises(LoginRequiredError):
            ask()


def test_job_finds_no_other_project(server: ServerProcess, agent: ApiClient, chunks: Any) -> None:
    other = server.client()
    snapshot = chunks.snapshot(other)
    with pytest.raises(NotFoundError) as caught:
        agent.manifest(other.project, snapshot.id)
    assert caught.value.code == "project_not_found"


def test_ended_attempt_can_do_nothing_more(
    owner: Client, agent: ApiClient, attempt: Attempt, database: Database, chunks: Any
) -> None:
    with database.write() as session:
        revoke_job_tokens(session, attempt.id)
    with pytest.raises(ConflictError) as caught:
        agent.missing_chunks(owner.project, [chunks.ref(b"late")])
    assert caught.value.code == "attempt_superseded"
