"""Checkpoints: announced and committed by agents, found and listed for people."""

from __future__ import annotations

from datetime import datetime

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError
from periflow_server.db import checkpoint as db
from periflow_server.db.attempt import newest_attempt
from periflow_server.db.base import Session, lock, utcnow
from periflow_server.db.checkpoint import Checkpoint, CheckpointRow
from periflow_server.db.deletion import remove_checkpoint
from periflow_server.db.event import add_event
from periflow_server.db.job import Job, note_due
from periflow_server.db.project import Project
from periflow_server.db.user import User
from periflow_server.permissions import Action
from periflow_server.services import attempt as attempts
from periflow_server.services import audit
from periflow_server.services.access import ProjectAccess, require_own
from periflow_server.services.snapshot import hold_snapshot
from periflow_server.services.token import AttemptIdentity


def start(session: Session, identity: AttemptIdentity, body: m.CheckpointStart) -> m.Checkpoint:
    """A checkpoint was staged and is on its way. The same ``upload_id`` again changes nothing."""
    job, attempt, _ = attempts.of_agent(session, identity)
    checkpoint = db.upload_of(session, attempt.id, body.upload_id)
    if checkpoint is None:
        checkpoint = Checkpoint(
            project_id=job.project_id,
            job_id=job.id,
            attempt_id=attempt.id,
            attempt_number=attempt.number,
            upload_id=body.upload_id,
            step=body.step,
            save_type=body.save_type,
            size=body.size,
        )
        session.add(checkpoint)
        session.flush()
    return present((_original(session, checkpoint), job.number))


def commit(
    session: Session, identity: AttemptIdentity, upload_id: str, body: m.CheckpointCommit
) -> m.Checkpoint:
    """A checkpoint is whole, or will never be.

    Raises:
        NotFoundError: it was never announced, or its snapshot does not exist.
        InvalidRequestError: not exactly one of ``snapshot_id`` and ``failure`` is given.
    """
    if (body.snapshot_id is None) == (body.failure is None):
        raise InvalidRequestError("A commit carries either snapshot_id or failure.")
    job, attempt, _ = attempts.of_agent(session, identity)
    checkpoint = db.upload_of(session, attempt.id, upload_id)
    if checkpoint is None:
        raise NotFoundError("This checkpoint was never announced.", code="checkpoint_not_found")
    if checkpoint.status != "ready":
        settle(session, checkpoint, body)
    return present((_original(session, checkpoint), job.number))


def settle(session: Session, checkpoint: Checkpoint, body: m.CheckpointCommit) -> None:
    """Publish a checkpoint, or say why it failed."""
    attempt = checkpoint.attempt_number
    if body.snapshot_id is None:
        if checkpoint.status != "failed":
            message = f"The checkpoint of step {checkpoint.step} failed: {body.failure}"
            add_event(session, checkpoint.job_id, "warning", message[:2000], attempt=attempt)
        checkpoint.status, checkpoint.reason = "failed", body.failure
        checkpoint.finished_at = utcnow()
        return
    snapshot = hold_snapshot(session, checkpoint.project_id, body.snapshot_id)
    original = db.same_content(session, checkpoint, snapshot.id)
    checkpoint.duplicate_of = original.id if original else None
    checkpoint.snapshot_id, checkpoint.size = snapshot.id, snapshot.size
    checkpoint.status, checkpoint.reason = "ready", None
    checkpoint.finished_at = utcnow()
    note_due(session, checkpoint.job_id)
    if original is None:
        message = f"The checkpoint of step {checkpoint.step} is ready."
        add_event(session, checkpoint.job_id, "checkpoint", message, attempt=attempt)


def _original(session: Session, checkpoint: Checkpoint) -> Checkpoint:
    if checkpoint.duplicate_of is None:
        return checkpoint
    return session.get_one(Checkpoint, checkpoint.duplicate_of)


def find(session: Session, project_id: str, text: str) -> CheckpointRow:
    """A checkpoint by id, unique id prefix or ``latest`` (the newest that is ready).

    Raises:
        NotFoundError: nothing fits (``checkpoint_not_found``).
        ConflictError: several fit (``ambiguous``, their ids in ``data["candidates"]``).
    """
    if text == "latest":
        row = db.latest_checkpoint(session, project_id)
        rows = [row] if row else []
    else:
        row = db.checkpoint_with_id(session, project_id, text)
        rows = [row] if row else db.checkpoints_with_prefix(session, project_id, text)
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise ConflictError(
            f"Several checkpoints begin with {text!r}.",
            code="ambiguous",
            hint="Give more characters of the id.",
            data={"candidates": [checkpoint.id for checkpoint, _ in rows]},
        )
    raise NotFoundError(
        f"There is no checkpoint {text!r}.",
        code="checkpoint_not_found",
        hint="Run `pf checkpoint list`.",
    )


def find_ready(session: Session, project_id: str, text: str) -> Checkpoint:
    """Like :func:`find`, of a checkpoint that a job can start from.

    Raises:
        InvalidRequestError: it is not ready (``checkpoint_not_ready``).
    """
    checkpoint, _ = find(session, project_id, text)
    if checkpoint.status != "ready":
        raise InvalidRequestError(
            f"Checkpoint {text!r} is {checkpoint.status}, not ready.",
            code="checkpoint_not_ready",
            hint="Run `pf checkpoint list` for one that is ready.",
        )
    return checkpoint


def delete_checkpoint(session: Session, access: ProjectAccess, text: str, *, dry_run: bool) -> None:
    """Delete a checkpoint; its files go with the next collection.

    Args:
        dry_run: Only see whether that may be done.

    Raises:
        NotFoundError: ``checkpoint_not_found``.
        ForbiddenError: it is of somebody else's job (``not_yours``).
        ConflictError: a job that has not ended needs it (``checkpoint_in_use``).
    """
    hold_project(session, access.project_id)
    checkpoint, _ = find(session, access.project_id, text)
    job = lock(session, session.get_one(Job, checkpoint.job_id))
    require_own(access, job.created_by, Action.CHECKPOINT_DELETE_ANY)
    checkpoint = lock(session, checkpoint)
    _refuse_needed(session, job, checkpoint)
    if dry_run:
        return
    username = session.get_one(User, access.user_id).username
    message = f"The checkpoint of step {checkpoint.step} was deleted by {username}."
    add_event(session, job.id, "deletion", message)
    subject = f"{checkpoint.id} (job {job.number}, step {checkpoint.step})"
    audit.note(session, access, "checkpoint.delete", subject)
    remove_checkpoint(session, checkpoint)


def hold_project(session: Session, project_id: str) -> Project:
    """The project; until the transaction ends no job is made that starts from a checkpoint."""
    return lock(session, session.get_one(Project, project_id))


def in_use(what: str, jobs: list[int]) -> ConflictError:
    """The refusal to delete what jobs that have not ended start from.

    Args:
        jobs: Their numbers.
    """
    names = list(map(str, jobs))
    who = f"jobs {', '.join(names)}, which have" if len(names) > 1 else f"job {names[0]}, which has"
    return ConflictError(
        f"{what} is needed by {who} not ended.",
        code="checkpoint_in_use",
        hint=f"Wait for the end, or stop it: `pf job stop {' '.join(names)}`.",
        data={"used_by": jobs},
    )


def _refuse_needed(session: Session, job: Job, checkpoint: Checkpoint) -> None:
    what = f"The checkpoint of step {checkpoint.step} of job {job.number}"
    if jobs := db.jobs_given(session, job_id=job.id, checkpoint_id=checkpoint.id):
        raise in_use(what, jobs)
    if job.status in m.TERMINAL_STATUSES:
        return
    # Its agent may still send one that is not ready, and ask again for what it began from.
    newest, attempt = db.newest_ready(session, job.id), newest_attempt(session, job.id)
    needed = {
        newest.id if newest is not None else None,
        attempt.restore_checkpoint_id if attempt is not None else None,
    }
    if checkpoint.status != "ready" or checkpoint.id in needed:
        raise in_use(what, [job.number])


def list_checkpoints(
    session: Session, project_id: str, *, job_id: str | None, cursor: str | None, limit: int
) -> tuple[list[m.Checkpoint], str | None]:
    """A page of checkpoints, newest first, and the cursor of the next one."""
    after = _position(cursor) if cursor else None
    rows = db.checkpoints_of(session, project_id, job_id=job_id, after=after, limit=limit + 1)
    following = None
    if len(rows) > limit:
        last = rows[limit - 1][0]
        following = f"{last.created_at.isoformat()}_{last.id}"
    return [present(row) for row in rows[:limit]], following


def _position(cursor: str) -> db.Position:
    moment, _, checkpoint_id = cursor.partition("_")
    try:
        created_at = datetime.fromisoformat(moment)
    except ValueError:
        created_at = None
    if created_at is None or created_at.tzinfo is None:
        raise InvalidRequestError("This cursor is not one of this list.")
    return created_at, checkpoint_id


def present(row: CheckpointRow) -> m.Checkpoint:
    """A checkpoint as it goes over the wire."""
    checkpoint, number = row
    names = m.Checkpoint.model_fields
    fields = {name: getattr(checkpoint, name) for name in names if name != "job"}
    return m.Checkpoint.model_validate({**fields, "job": number})
