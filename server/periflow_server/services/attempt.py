"""How attempts, and their jobs with them, go from one status to the next."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta
from typing import Literal

from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.errors import ConflictError
from periflow_server.db.attempt import LIVE as LIVE
from periflow_server.db.attempt import (
    Attempt,
    Node,
    node_ranked,
    nodes_of,
    noticed_preemptions,
)
from periflow_server.db.base import Session, utcnow
from periflow_server.db.checkpoint import newest_ready
from periflow_server.db.event import add_event
from periflow_server.db.job import Job, locked_job, note_due
from periflow_server.services.announcement import note_change
from periflow_server.services.token import AttemptIdentity, revoke_job_tokens

Lost = Literal["preempted", "node-lost"]
LOG_TAIL_LINES = 20


def of_agent(
    session: Session, identity: AttemptIdentity, *, to_change: bool = True
) -> tuple[Job, Attempt, Node]:
    """The rows that an agent speaks for.

    Args:
        to_change: Nobody else changes them until the transaction ends.

    Raises:
        ConflictError: the attempt is over (``attempt_superseded``).
    """
    job = locked_job(session, identity.job_id) if to_change else session.get(Job, identity.job_id)
    attempt = session.get(Attempt, identity.attempt_id)
    node = node_ranked(session, identity.attempt_id, identity.node_rank)
    is_taken = attempt is not None and (attempt.status in LIVE or identity.is_late)
    is_there = job is not None and job.deleted_at is None
    if attempt is None or job is None or node is None or not (is_taken and is_there):
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
    if len(nodes_of(session, attempt.id)) > 1:
        message = "The first agents are up; they fetch the workspace and the data."
    _enter(session, job, attempt, "preparing", message)


def run(session: Session, job: Job, attempt: Attempt) -> None:
    """The command was started."""
    if attempt.status == "running":
        return
    prepare(session, job, attempt)
    attempt.status = "running"
    _enter(session, job, attempt, "running", "The command runs.")


def notice(
    session: Session, job: Job, attempt: Attempt, noticed_at: datetime, deadline: datetime | None
) -> None:
    """The attempt was told that it has to end. A second notice only brings the deadline nearer."""
    if attempt.noticed_at is None:
        attempt.noticed_at = noticed_at
        if job.status == "running":
            message = "The node will be taken: the ranks save at one step, and the attempt ends."
            add_event(session, job.id, "notice", message, attempt=attempt.number)
    if deadline is not None and (attempt.deadline_at is None or deadline < attempt.deadline_at):
        attempt.deadline_at = deadline


def succeed(session: Session, job: Job, attempt: Attempt) -> None:
    """The command exited with 0; before its last step that is a failure, unless it was meant."""
    step, total = job.step or 0, job.total_steps
    where = f"step {step} of {total}" if total else f"step {step}"
    if total and job.step is not None and step < total and not attempt.finished_early:
        fail(session, job, attempt, f"exited at {where}", 0)
        return
    is_early = attempt.finished_early and not (total and step >= total)
    reason = f"finished early at {where}" if is_early else None
    _end(session, attempt, "success", reason, 0)
    _end_job(job, "success", reason, 0)
    message = "The command exited with code 0"
    if job.step is not None:
        message = f"{message} after {where}{': it finished early' if is_early else ''}"
    note_change(session, job, "success", f"{message}.", attempt=attempt.number)


def fail(
    session: Session, job: Job, attempt: Attempt, reason: str, exit_code: int | None = None
) -> None:
    """The attempt failed, and the job with it."""
    _end(session, attempt, "failed", reason, exit_code)
    _end_job(job, "failed", reason, exit_code)
    note_change(session, job, "failed", f"The job failed: {reason}.", attempt=attempt.number)


def stop(session: Session, job: Job, attempt: Attempt, exit_code: int | None = None) -> None:
    """The attempt ended because it was told to."""
    reason = "stopped on request"
    _end(session, attempt, "stopped", reason, exit_code)
    _end_job(job, "stopped", reason, exit_code)
    note_change(session, job, "stopped", "The job was stopped.", attempt=attempt.number)


def lose(
    session: Session,
    job: Job,
    attempt: Attempt,
    status: Lost,
    reason: str,
    exit_code: int | None = None,
) -> None:
    """The attempt lost its node. The job waits for another attempt if its file allows that.

    A preemption with notice is nobody's failure: it uses up none of the job's attempts, and the
    next one begins at once.
    """
    _end(session, attempt, status, reason, exit_code)
    note_change(session, job, status, f"{reason[:1].upper()}{reason[1:]}.", attempt=attempt.number)
    session.flush()
    restart = JobSpec.model_validate(job.spec).restart
    is_free = status == "preempted" and attempt.noticed_at is not None
    counted = attempt.number - noticed_preemptions(session, job.id)
    if job.status == "stopping":
        _end_job(job, "stopped", f"stopped on request; {reason}", exit_code)
        note_change(session, job, "stopped", "The job was stopped.", attempt=attempt.number)
    elif status not in restart.on or (counted >= restart.max_attempts and not is_free):
        is_used_up = status in restart.on
        _give_up(session, job, attempt, f"{status}: {reason}", counted if is_used_up else None)
    else:
        _wait_again(session, job, attempt, 0 if is_free else restart.backoff_seconds)


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
    note_change(session, job, status, message, attempt=attempt.number)


def _give_up(session: Session, job: Job, attempt: Attempt, why: str, counted: int | None) -> None:
    if counted is not None:
        why = f"{why}; this was attempt {counted} of {counted}, preemptions apart"
    _end_job(job, "failed", why, None)
    note_change(session, job, "failed", f"The job failed: {why}.", attempt=attempt.number)


def _wait_again(session: Session, job: Job, attempt: Attempt, backoff_seconds: float) -> None:
    checkpoint = newest_ready(session, job.id)
    start = f"from the checkpoint of step {checkpoint.step}" if checkpoint else "from the start"
    when = f"in {backoff_seconds:g} s" if backoff_seconds else "at once"
    message = f"Attempt {attempt.number + 1} begins {when}, {start}."
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
    note_due(session, attempt.job_id)
    revoke_job_tokens(session, attempt.id)


def _end_job(job: Job, status: str, reason: str | None, exit_code: int | None) -> None:
    job.status = status
    job.reason = reason
    job.exit_code = exit_code
    job.finished_at = utcnow()
