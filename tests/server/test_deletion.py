"""What is deleted is gone for all at once, and then from the store and the database."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from people import join_organization, join_project
from sqlalchemy import delete, func, select
from waiting import wait_until

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, ForbiddenError, NotFoundError
from periflow_server.db.attempt import Attempt, Node
from periflow_server.db.audit import AuditEvent
from periflow_server.db.base import Base, Database, new_id, utcnow
from periflow_server.db.checkpoint import Checkpoint
from periflow_server.db.deletion import hide_job
from periflow_server.db.event import Event
from periflow_server.db.job import Job, next_number
from periflow_server.db.log import LogBatch
from periflow_server.db.metric import JournalOffset, MetricChunk, MetricSeries
from periflow_server.db.notification import Delivery
from periflow_server.db.organization import Organization
from periflow_server.db.part import CheckpointPart
from periflow_server.db.project import Project
from periflow_server.db.schema import import_tables
from periflow_server.embedded import load_site
from periflow_server.services.token import issue_job_token

if TYPE_CHECKING:
    from conftest import Client, ServerProcess


def fill(database: Database, owner: Client, chunks: Any, status: str = "success") -> str:
    """Give the owner's project a dataset and a job with everything that jobs leave; its id."""
    snapshot = chunks.snapshot(owner, owner.username.encode())
    body = m.DatasetCreate(name=f"data-{owner.username}", snapshot_id=snapshot.id)
    owner.create_dataset(owner.project, body)
    return add_job(database, owner, snapshot, status)


def add_job(
    database: Database, owner: Client, snapshot: m.Snapshot, status: str = "success"
) -> str:
    """A job of the owner's with everything that jobs leave, and a message that is to be sent."""
    with database.write() as session:
        job = Job(
            project_id=owner.project,
            number=next_number(session, owner.project),
            name="job",
            status=status,
            vm="local-cpu",
            device="CPU",
            num_devices=1,
            spec={},
            shell={},
            created_by=owner.session.user.id,
        )
        session.add(job)
        session.flush()
        attempt = Attempt(job_id=job.id, number=1, status="success")
        series = MetricSeries(
            job_id=job.id, rank=0, name="loss", kind="number", last_step=1, last_value=1.0
        )
        session.add_all([attempt, series])
        session.flush()
        session.add_all(_leavings(owner.project, job, attempt, series, snapshot))
        issue_job_token(
            session,
            attempt_id=attempt.id,
            job_id=job.id,
            project_id=owner.project,
            node_rank=0,
        )
        return job.id


def _leavings(
    project: str, job: Job, attempt: Attempt, series: MetricSeries, snapshot: m.Snapshot
) -> list[Base]:
    checkpoint_id = new_id()
    return [
        Node(attempt_id=attempt.id, rank=0, folder="x", devices=[0]),
        Event(job_id=job.id, kind="waiting", message="Submitted."),
        Delivery(
            project_id=project,
            job_id=job.id,
            kind="slack",
            target=job.id,
            content={"type": "job.failed", "data": {"job": {"number": job.number}}},
            next_try_at=utcnow() + timedelta(days=1),
        ),
        LogBatch(attempt_id=attempt.id, node=0, offset=0, size=1, data=b"x"),
        JournalOffset(attempt_id=attempt.id, rank=0, segment="1", offset=1),
        MetricChunk(
            series_id=series.id,
            attempt=1,
            count=1,
            min_step=1,
            max_step=1,
            steps=b"x",
            times=b"x",
            values=b"x",
        ),
        Checkpoint(
            id=checkpoint_id,
            project_id=project,
            job_id=job.id,
            attempt_id=attempt.id,
            attempt_number=1,
            upload_id="1",
            step=1,
            save_type="NORMAL",
            status="ready",
            size=1,
            snapshot_id=snapshot.id,
        ),
        CheckpointPart(
            checkpoint_id=checkpoint_id,
            node=0,
            project_id=project,
            generation=0,
            size=1,
            first_rank=0,
        ),
    ]


def rows_of(database: Database, **named: str) -> dict[str, int]:
    """How many rows there are of the tables that have such a column, where there are some."""
    counts = {}
    with database.read() as session:
        for table in Base.metadata.sorted_tables:
            for column, value in named.items():
                # The audit trail tells of what is gone, too.
                if column in table.c and table.name != "audit_events":
                    query = select(func.count()).select_from(table)
                    counts[table.name] = session.scalar(query.where(table.c[column] == value)) or 0
    return {name: count for name, count in counts.items() if count}


def test_deleted_project_is_not_found_by_anybody_at_once(server: ServerProcess) -> None:
    owner = server.client()
    admin = join_project(server, owner, "admin")
    owner.delete_project(owner.project)
    for client in (owner, admin):
        assert client.projects(owner.organization) == []
        with pytest.raises(NotFoundError) as caught:
            client.jobs(owner.project)
        assert caught.value.code == "project_not_found"
    with pytest.raises(NotFoundError):
        owner.delete_project(owner.project)
    assert owner.create_project(owner.organization, "project").id != owner.project


def test_everything_of_a_deleted_project_is_removed(
    server: ServerProcess, database: Database, chunks: Any
) -> None:
    owner = server.client()
    job_id = fill(database, owner, chunks)
    storage = server.data_dir / "storage"
    assert (storage / "chunks" / owner.project).exists()
    assert len(rows_of(database, project_id=owner.project, job_id=job_id)) > 8
    owner.delete_project(owner.project)

    def is_gone() -> bool:
        with database.read() as session:
            return session.get(Project, owner.project) is None

    wait_until(is_gone, 10, lambda: server.log()[-2000:])
    assert rows_of(database, project_id=owner.project, job_id=job_id) == {}
    assert not (storage / "chunks" / owner.project).exists()
    assert not (storage / "manifests" / owner.project).exists()


def leave_files(server: ServerProcess, database: Database, job_id: str, memory: Path) -> list[Path]:
    """What a job leaves outside of the database: of its log, of its node, and in memory."""
    with database.read() as session:
        attempt = session.scalar(select(Attempt.id).where(Attempt.job_id == job_id))
    log = server.data_dir / "storage" / "logs" / str(attempt) / "0"
    node = server.data_dir / "jobs" / job_id / "1" / "0"
    run_dir, others = memory / f"{job_id}-1-0", memory / "of-somebody-else"
    for folder in (log.parent.parent, server.data_dir / "jobs"):
        folder.mkdir(mode=0o700, exist_ok=True)  # as the server makes them; they stay
    for folder in (log, node, run_dir, node.parent / "1", others):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    (node / "state.json").write_text(json.dumps({"run_dir": str(run_dir)}))
    (node.parent / "1" / "state.json").write_text(json.dumps({"run_dir": str(others)}))
    return [log, node, run_dir]


def test_everything_of_a_deleted_job_is_removed_and_nothing_else(
    server: ServerProcess, database: Database, chunks: Any, tmp_path: Path
) -> None:
    owner = server.client()
    job_id = fill(database, owner, chunks)
    other = add_job(database, owner, chunks.snapshot(owner, b"other"))
    kept = rows_of(database, job_id=other)
    files = leave_files(server, database, job_id, tmp_path)
    owner.delete_job(owner.project, 1)
    wait_until(lambda: not rows_of(database, job_id=job_id), 90, lambda: server.log()[-2000:])
    with database.read() as session:
        assert session.get(Job, job_id) is None
        message = session.scalar(select(Delivery).where(Delivery.target == job_id))
        audited = session.scalar(
            select(AuditEvent).where(
                AuditEvent.action == "job.delete", AuditEvent.project_id == owner.project
            )
        )
    assert [path for path in files if path.exists()] == []
    assert (tmp_path / "of-somebody-else" / "file").exists()
    assert rows_of(database, job_id=other) == kept
    assert message is not None and message.status == "waiting"
    assert audited is not None and audited.subject == "1 (job)"
    assert audited.actor == f"user {owner.username}"


def test_removal_that_a_kill_cut_short_is_finished_later(
    start_server: Callable[..., ServerProcess], chunks: Any, tmp_path: Path
) -> None:
    server = start_server(PERIFLOW_SERVER_COLLECT_SECONDS="0.3", PERIFLOW_SERVER_LEASE_SECONDS="1")
    owner = server.client()
    import_tables()
    database = Database(server.database_url)
    snapshot = chunks.snapshot(owner, b"of all jobs")
    jobs = [add_job(database, owner, snapshot) for _ in range(40)]
    files = [
        path for job_id in jobs for path in leave_files(server, database, job_id, tmp_path / job_id)
    ]
    owner.delete_job(owner.project, 1)
    with database.write() as session:
        for job in session.scalars(select(Job).where(Job.project_id == owner.project)):
            if job.id != jobs[0]:
                hide_job(job, utcnow())
        os.kill(server.pid, signal.SIGSTOP)  # here it is in no transaction

    def left() -> int:
        return rows_of(database, project_id=owner.project).get("jobs", 0)

    # It goes on for moments, so that it is found between two jobs however slow the machine is.
    deadline = time.monotonic() + 90
    while left() >= len(jobs) - 1:
        assert time.monotonic() < deadline, server.log()[-2000:]
        os.kill(server.pid, signal.SIGCONT)
        time.sleep(0.002)
        os.kill(server.pid, signal.SIGSTOP)
    server.kill()
    assert left()
    server.start()
    owner = owner.at(server)
    assert owner.jobs(owner.project) == []

    def is_gone() -> bool:
        return not left() and not owner.storage_usage(owner.project).used_bytes

    wait_until(is_gone, 90, lambda: server.log()[-2000:])
    database.close()
    assert [path for path in files if path.exists()] == []


@pytest.mark.postgresql
def test_each_server_removes_the_folders_that_its_executor_made(pair: Any, chunks: Any) -> None:
    owner = pair.clients[0]
    import_tables()
    database = Database(pair.servers[0].database_url)
    snapshot = chunks.snapshot(owner)
    shared, other = (add_job(database, owner, snapshot) for _ in range(2))
    folders = [each.data_dir / "jobs" / shared for each in pair.servers]
    with database.write() as session:
        attempt = session.scalar(select(Attempt.id).where(Attempt.job_id == shared))
        session.execute(delete(Node).where(Node.attempt_id == attempt))
        for rank, (server, folder) in enumerate(zip(pair.servers, folders, strict=True)):
            (folder / "1" / str(rank)).mkdir(parents=True)
            site = load_site(server.data_dir)
            session.add(Node(attempt_id=attempt, rank=rank, folder="x", site=site))
    pair.clients[0].delete_job(owner.project, 1)
    wait_until(lambda: not folders[0].exists(), 90)
    assert folders[1].exists()
    pair.clients[1].delete_job(owner.project, 2)
    for job_id in (shared, other):
        wait_until(lambda job_id=job_id: not rows_of(database, job_id=job_id), 90)
    assert not folders[1].exists()
    database.close()


def test_project_with_a_job_that_runs_is_not_deleted(
    server: ServerProcess, database: Database, chunks: Any
) -> None:
    owner = server.client()
    fill(database, owner, chunks, status="running")
    with pytest.raises(ConflictError) as caught:
        owner.delete_project(owner.project)
    assert caught.value.code == "project_busy"
    assert caught.value.data["jobs"] == [1]
    assert "pf job stop 1" in (caught.value.hint or "")
    with pytest.raises(ConflictError) as caught:
        owner.delete_organization(owner.organization)
    assert caught.value.code == "organization_busy"
    assert [each.name for each in owner.projects(owner.organization)] == ["project"]
    with database.write() as session:
        session.query(Job).filter_by(project_id=owner.project).update({"status": "stopped"})


def test_deleted_organization_is_gone_with_its_projects_and_members(
    server: ServerProcess, database: Database, chunks: Any
) -> None:
    owner, member = server.client(), server.signed_up()
    join_organization(server, owner, member)
    owner.invite(owner.organization, f"late-{owner.username}@example.com")
    fill(database, owner, chunks)
    with pytest.raises(ForbiddenError):
        member.delete_organization(owner.organization)
    owner.delete_organization(owner.organization)
    for client in (owner, member):
        assert client.organizations() == []
        with pytest.raises(NotFoundError) as caught:
            client.projects(owner.organization)
        assert caught.value.code == "organization_not_found"

    def is_gone() -> bool:
        with database.read() as session:
            return session.get(Organization, owner.organization) is None

    wait_until(is_gone, 10, lambda: server.log()[-2000:])
    assert rows_of(database, organization_id=owner.organization) == {}
    assert owner.create_organization(f"{owner.username}-org").id != owner.organization
