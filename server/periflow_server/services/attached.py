"""Runs that were started outside and show up as jobs, and what ended jobs left unsent."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.errors import ConflictError, NotFoundError
from periflow_server.db import job as db
from periflow_server.db.attempt import Attempt, Node, attempts_of, newest_attempt, nodes_of
from periflow_server.db.base import Session, lock, utcnow
from periflow_server.db.event import add_event
from periflow_server.db.job import Job, JobRow, note_due
from periflow_server.db.user import User
from periflow_server.services import attempt as attempts
from periflow_server.services import job as jobs
from periflow_server.services.announcement import note_change
from periflow_server.services.token import AttemptIdentity, issue_job_token, revoke_job_tokens

VM = "attached"


def attach(
    session: Session, project_id: str, user_id: str, body: m.AttachedJobCreate
) -> m.AttachedJob:
    """The job of a run: a new one that runs already, or the one it has.

    A job that was given up because its agent was silent goes on; one that has ended otherwise
    takes what the run left, and stays as it is. A run whose job was deleted gets a new one.
    """
    row = db.job_of_run(session, project_id, body.run_id)
    if row is None or lock(session, row[0]).deleted_at is not None:
        row = _create(session, project_id, user_id, body)
    job = lock(session, row[0])
    attempt = newest_attempt(session, job.id)
    assert attempt is not None  # made with the job
    if attempt.status == "node-lost" and job.status in m.TERMINAL_STATUSES:
        _revive(session, job, attempt)
    return _grant(session, row, attempt, 0)


def sync(session: Session, row: JobRow, body: m.SyncRequest) -> m.AttachedJob:
    """Let a member send what the agent of a node could not, once the job has ended.

    Raises:
        ConflictError: the job has not ended; its own agents send what they have (``job_running``).
        NotFoundError: it has no such attempt or node (``job_not_found``).
    """
    job = jobs.hold(session, row)
    found = [one for one in attempts_of(session, job.id) if one.number == body.attempt]
    if not found or body.node not in {node.rank for node in nodes_of(session, found[0].id)}:
        raise NotFoundError(
            f"Job {job.number} has no node {body.node} of attempt {body.attempt}.",
            code="job_not_found",
            hint=f"Run `pf job view {job.number}`.",
        )
    if job.status not in m.TERMINAL_STATUSES:
        raise ConflictError(
            f"Job {job.number} is {job.status}: its agent sends what is there.",
            code="job_running",
            hint=f"Wait for its end, or run `pf job stop {job.number}`.",
        )
    return _grant(session, row, found[0], body.node)


def finish_late(session: Session, identity: AttemptIdentity) -> None:
    """What an ended attempt had left is here."""
    job, attempt, _ = attempts.of_agent(session, identity)
    revoke_job_tokens(session, attempt.id)
    note_due(session, job.id)
    message = f"What attempt {attempt.number} had left was sent."
    add_event(session, job.id, "sync", message, attempt=attempt.number)


def _grant(session: Session, row: JobRow, attempt: Attempt, node: int) -> m.AttachedJob:
    job, _ = row
    has_ended = attempt.status not in attempts.LIVE
    token = issue_job_token(
        session,
        attempt_id=attempt.id,
        job_id=job.id,
        project_id=job.project_id,
        node_rank=node,
        is_late=has_ended,
    )
    return m.AttachedJob(
        job=jobs.present(row), attempt=attempt.number, token=token, ended=has_ended
    )


def _create(session: Session, project_id: str, user_id: str, body: m.AttachedJobCreate) -> JobRow:
    now = utcnow()
    job = Job(
        project_id=project_id,
        number=db.next_number(session, project_id),
        name=body.name,
        status="running",
        vm=VM,
        device="-",
        num_devices=body.num_ranks,
        spec=_spec(body).model_dump(mode="json"),
        shell=m.ShellEnvironment().model_dump(mode="json"),
        run_id=body.run_id,
        created_by=user_id,
        started_at=now,
    )
    session.add(job)
    session.flush()
    attempt = Attempt(job_id=job.id, number=1, status="running", started_at=now)
    session.add(attempt)
    session.flush()
    session.add(Node(attempt_id=attempt.id, rank=0, folder="", hostname=body.hostname))
    username = session.get_one(User, user_id).username
    message = f"A run on {body.hostname} was attached by {username}; its output stays there."
    note_change(session, job, "running", message, attempt=1)
    session.flush()
    return job, username


def _spec(body: m.AttachedJobCreate) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": body.name,
            "vm": VM,
            "num_devices": body.num_ranks,
            "job_setting": {"docker": {"image": "-", "command": body.command}},
            # Nobody but its user can start it again.
            "restart": {"on": []},
        }
    )


def _revive(session: Session, job: Job, attempt: Attempt) -> None:
    attempt.status = job.status = "running"
    attempt.reason = job.reason = None
    attempt.finished_at = job.finished_at = None
    message = "The agent is heard of again; the run goes on."
    note_change(session, job, "running", message, attempt=attempt.number)
