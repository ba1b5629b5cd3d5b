"""Retention rules of job files: which checkpoints stay, and the rest is removed.

A commit only notes that its job is due (``note_due`` of ``db/job.py``), in its own transaction;
what is due is looked at in the background, and is due again if a server dies before it is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isnan

from periflow_sdk.api.jobfile import BestCheckpoints, Retention
from periflow_server.db.attempt import LIVE, Attempt, newest_attempt
from periflow_server.db.base import Database, Session, lock, utcnow
from periflow_server.db.checkpoint import Checkpoint, given_to_jobs, ready_of, retire
from periflow_server.db.event import add_event, find_event
from periflow_server.db.job import Job, due_for_retention, locked_job
from periflow_server.db.project import Project
from periflow_server.services.metric import value_at

_JOBS_A_ROUND = 50
_WHILE_IT_PREPARES = timedelta(seconds=5)
_WHILE_METRICS_COME = timedelta(seconds=2)
_METRICS_COME_WITHIN = timedelta(seconds=60)
"""They are sent apart from checkpoints; what comes later counts at the next checkpoint."""

Values = Mapping[str, float]
"""What the metric of ``keep_best`` was at the step of a checkpoint, by its id, where known."""


@dataclass(frozen=True)
class Due:
    """A job whose checkpoints are to be looked at, as it was found."""

    project_id: str
    job_id: str
    since: datetime


def due_jobs(session: Session) -> list[Due]:
    """Some of the jobs that are due."""
    return [
        Due(job.project_id, job.id, job.retention_due_at)
        for job in due_for_retention(session, utcnow(), limit=_JOBS_A_ROUND)
        if job.retention_due_at is not None
    ]


def apply_rules(database: Database, due: Due) -> int:
    """Remove the checkpoints of a job that none of its rules keeps; how many.

    Metrics are read beforehand: whoever waits for the job must not wait for that.
    """
    with database.read() as session:
        values = _values(session, due.job_id)
    with database.write() as session:
        # In this order, as where jobs are made: none is given a checkpoint that goes just now.
        project = lock(session, session.get_one(Project, due.project_id))
        job = locked_job(session, due.job_id)
        if job is None or job.retention_due_at != due.since:
            return 0  # done by another server, or there is more to look at
        job.retention_due_at = None
        attempt = newest_attempt(session, job.id)
        if project.deleted_at is not None or job.deleted_at is not None or attempt is None:
            return 0
        if attempt.status in ("allocating", "preparing"):
            # If what it restores is damaged it takes an older one.
            job.retention_due_at = utcnow() + _WHILE_IT_PREPARES
            return 0
        return _remove(session, job, attempt, values)


def _values(session: Session, job_id: str) -> Values:
    job = session.get(Job, job_id)
    best = _rules(job).keep_best if job is not None else None
    if job is None or best is None:
        return {}
    found: dict[str, float] = {}
    for checkpoint in ready_of(session, job.id):
        number, step = checkpoint.attempt_number, checkpoint.step
        value = value_at(session, job.id, best.metric, attempt=number, step=step)
        if value is not None:
            found[checkpoint.id] = value
    return found


def _remove(session: Session, job: Job, attempt: Attempt, values: Values) -> int:
    rules = _rules(job)
    ready = ready_of(session, job.id)
    kept = kept_by(rules, ready, values) | {each.id for each in ready[:1]}
    kept |= given_to_jobs(session, job.id)
    if attempt.status in LIVE and attempt.restore_checkpoint_id is not None:
        # Its agent, started again, asks anew for what it began from.
        kept.add(attempt.restore_checkpoint_id)
    gone = [each for each in reversed(ready) if each.id not in kept]
    unknown = {each.id for each in ready} - kept - values.keys() if rules.keep_best else set()
    now = utcnow()
    removed = 0
    for checkpoint in gone:
        if checkpoint.id in unknown:
            continue
        retire(session, checkpoint, now)
        message = f"The checkpoint of step {checkpoint.step} was removed: {rules}."
        add_event(session, job.id, "retention", message, attempt=attempt.number)
        removed += 1
    if rules.keep_best is not None and unknown:
        recent = [each.finished_at for each in ready if each.id in unknown and each.finished_at]
        if attempt.status not in LIVE:
            _warn(session, job, attempt, rules.keep_best)
        elif recent and max(recent) > now - _METRICS_COME_WITHIN:
            job.retention_due_at = now + _WHILE_METRICS_COME
    return removed


def _warn(session: Session, job: Job, attempt: Attempt, best: BestCheckpoints) -> None:
    """Say once, when no more metrics come, that something is kept for want of them."""
    message = (
        f"keep_best cannot judge checkpoints at whose step no number {best.metric!r} was "
        "reported; they are kept."
    )
    number = attempt.number
    if find_event(session, job.id, "warning", attempt=number, message=message) is None:
        add_event(session, job.id, "warning", message, attempt=number)


def kept_by(rules: Retention, ready: Sequence[Checkpoint], values: Values) -> set[str]:
    """The ids of the checkpoints that a rule keeps, those apart that ``keep_best`` cannot judge.

    Args:
        ready: The job's checkpoints, the newest first.
    """
    kept = {each.id for each in ready[: rules.keep_last]}
    if rules.keep_every is not None:
        kept |= _every(ready, rules.keep_every)
    if rules.keep_best is not None:
        kept |= _best(ready, rules.keep_best, values)
    return kept


def _every(ready: Sequence[Checkpoint], steps: int) -> set[str]:
    """The first one at or after each multiple of so many steps; of the same step the newest."""
    first: dict[int, Checkpoint] = {}
    for checkpoint in ready:
        span = checkpoint.step // steps
        if span and (span not in first or checkpoint.step < first[span].step):
            first[span] = checkpoint
    return {each.id for each in first.values()}


def _best(ready: Sequence[Checkpoint], best: BestCheckpoints, values: Values) -> set[str]:
    """The best of those whose value is known; of equal ones the newer. NaN is worse than all."""
    sign = 1 if best.mode == "min" else -1
    known = [each.id for each in ready if each.id in values and not isnan(values[each.id])]
    return set(sorted(known, key=lambda each: sign * values[each])[: best.count])


def _rules(job: Job) -> Retention:
    return Retention.model_validate(job.spec["retention"])
