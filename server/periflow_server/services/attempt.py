"""How attempts, and their jobs with them, go from one status to the next."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import Literal

from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.errors import ConflictError
from periflow_server.db.attempt import LIVE as LIVE
from periflow_server.db.attempt import Attempt, Node, node_ranked
from periflow_server.db.base import Session, utcnow
from periflow_server.db.checkpoint import newest_ready
from periflow_server.db.event import add_event
from periflow_server.db.job import Job
from periflow_server.services.token import AttemptIdentity, revoke_job_tokens

Lost = Literal["preempted", "node-lost"]
LOG_TAIL_LINES = 20


def of_agent(session: Session, identity: AttemptIdentity) -> tuple[Job, Attempt, Node]:
    """The rows that an agent speaks for.

    Raises:
        ConflictError: the attempt is over (``attempt_superseded``).
    """
    attempt = session.get(Attempt, identity.attempt_id)
    job = session.get(Job, identity.job_id)
    node = node_ranked(session, identity.attempt_id, identity.node_rank)
    if attempt is None or job is None or node is None or attempt.status not in LIVE:
        raise ConflictError(
            "This attempt has ended or was superseded; nothing more is taken from it.",
            code="attempt_superseded",
        )
    return job, attempt, node


def prepare(session: Session, job: Job, attempt: Attempt) -> None:
    """The agents are up: the attempt makes its folders ready."""
    if attempt.status != "allocating":
        return
    attempt.status = "preparing"
    attempt.started_at = utcnow()
    job.started_at = job.started_at or attempt.started_at
    message = "The agent is up; it fetches the workspace and the data."
    _enter(session, job, attempt, "preparing", message)


def run(session: Session, job: Job, attempt: Attempt) -> None:
    """The command was started."""
    if attempt.status == "running":
        return
    prepare(session, job, attempt)
    attempt.status = "running"
    _enter(session, job, attempt, "running", "The command runs.")


def succeed(session: Session, job: Job, attempt: Attempt) -> None:
    """The command exited with 0."""
    _end(session, attempt, "success", None, 0)
    _end_job(job, "success", None, 0)
    if job.total_steps and job.step is not None and job.step < job.total_steps:
        message = f"The command exited at step {job.step} of {job.total_steps}."
        add_event(session, job.id, "warning", message, attempt=attempt.number)
    message = "The command exited with code 0."
    if job.step is not None:
        of_total = f" of {job.total_steps}" if job.total_steps else ""
        message = f"The command exited with code 0 after step {job.step}{of_total}."
    add_event(session, job.id, "success", message, attempt=attempt.number)


def fail(
    session: Session, job: Job, attempt: Attempt, reason: str, exit_code: int | None = None
) -> None:
    """The attempt failed, and the job with it."""
    _end(session, attempt, "failed", reason, exit_code)
    _end_job(job, "failed", reason, exit_code)
    add_event(session, job.id, "failed", f"The job failed: {reason}.", attempt=attempt.number)


def stop(session: Session, job: Job, attempt: Attempt, exit_code: int | None = None) -> None:
    """The attempt ended because it was told to."""
    reason = "stopped on request"
    _end(session, attempt, "stopped", reason, exit_code)
    _end_job(job, "stopped", reason, exit_code)
    add_event(session, job.id, "stopped", "The job was stopped.", attempt=attempt.number)


def lose(session: Session, job: Job, attempt: Attempt, status: Lost, reason: str) -> None:
    """The attempt lost its node. The job waits for another attempt if its file allows that."""
    _end(session, attempt, status, reason, None)
    add_event(session, job.id, status, f"{reason[:1].upper()}{reason[1:]}.", attempt=attempt.number)
    restart = JobSpec.model_validate(job.spec).restart
    if job.status == "stopping":
        _end_job(job, "stopped", f"stopped on request; {reason}", None)
        add_event(session, job.id, "stopped", "The job was stopped.", attempt=attempt.number)
    elif status not in restart.on or attempt.number >= restart.max_attempts:
        _give_up(session, job, attempt, status, reason, restart.max_attempts)
    else:
        _wait_again(session, job, attempt, restart.backoff_seconds)


def exit_reason(exit_code: int) -> str:
    """What an exit code of a command says, in words; 128 + n stands for signal n."""
    if exit_code > 128:
        number = exit_code - 128
        try:
            return f"killed by signal {number} ({signal.Signals(number).name})"
        except ValueError:
            pass
    return f"exited with code {exit_code}"


def _enter(session: Session, job: Job, attempt: Attempt, status: str, message: str) -> None:
    if job.status != "stopping":
        job.status = status
        job.reason = None
    add_event(session, job.id, status, message, attempt=attempt.number)


def _give_up(
    session: Session, job: Job, attempt: Attempt, status: Lost, reason: str, max_attempts: int
) -> None:
    why = f"{status}: {reason}"
    if attempt.number >= max_attempts:
        why = f"{why}; this was attempt {attempt.number} of {max_attempts}"
    _end_job(job, "failed", why, None)
    add_event(session, job.id, "failed", f"The job failed: {why}.", attempt=attempt.number)


def _wait_again(session: Session, job: Job, attempt: Attempt, backoff_seconds: float) -> None:
    checkpoint = newest_ready(session, job.id)
    start = f"from the checkpoint of step {checkpoint.step}" if checkpoint else "from the start"
    message = f"Attempt {attempt.number + 1} begins in {backoff_seconds:g} s, {start}."
    job.status = "waiting"
    job.reason = message
    job.eligible_at = utcnow() + timedelta(seconds=backoff_seconds)
    add_event(session, job.id, "waiting", message)


def _end(
    session: Session, attempt: Attempt, status: str, reason: str | None, exit_code: int | None
) -> None:
    attempt.status = status
    attempt.reason = reason
    attempt.exit_code = exit_code
    attempt.finished_at = utcnow()
    revoke_job_tokens(session, attempt.id)


def _end_job(job: Job, status: str, reason: str | None, exit_code: int | None) -> None:
    job.status = status
    job.reason = reason
    job.exit_code = exit_code
    job.finished_at = utcnow()
