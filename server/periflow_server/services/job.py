"""Jobs: created, found, shown and stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from periflow_sdk.api import models as m
from periflow_sdk.api.jobfile import HUB_PREFIX, DataSection
from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError
from periflow_server.db import job as db
from periflow_server.db.attempt import Attempt, attempts_of, newest_attempt, nodes_of
from periflow_server.db.base import Session, lock, utcnow
from periflow_server.db.checkpoint import (
    checkpoints_of,
    jobs_given,
    newest_emergency,
    newest_ready,
)
from periflow_server.db.deletion import hide_job
from periflow_server.db.event import add_event, events_of
from periflow_server.db.job import Job, JobRow
from periflow_server.db.project import Project
from periflow_server.db.user import User
from periflow_server.permissions import Action
from periflow_server.services import attempt as attempts
from periflow_server.services import audit, checkpoint, job_credential
from periflow_server.services import dataset as dataset_service
from periflow_server.services.access import ProjectAccess, require_own
from periflow_server.services.agent import GRACE_SECONDS
from periflow_server.services.announcement import note_change
from periflow_server.services.attempt import LOG_TAIL_LINES
from periflow_server.services.dataset_link import credential_of
from periflow_server.services.logpage import LogReader
from periflow_server.services.snapshot import hold_snapshot
from periflow_server.services.token import revoke_job_tokens
from periflow_server.services.usage import keep_usage
from periflow_server.services.vm import require_vm
from periflow_server.storage.store import Store

_LONGEST_NAME = 128
_SHOWN_CHECKPOINTS = 200


def create(session: Session, project_id: str, user_id: str, body: m.JobCreate) -> m.Job:
    """Put a job into the queue, once everything it names is known to exist.

    Raises:
        NotFoundError: of its VM type, credentials, data set, checkpoint or workspace.
        InvalidRequestError: it can never run as asked.
    """
    spec = body.spec
    shape = require_vm(spec.vm, spec.num_devices)
    job_credential.pin(session, session.get_one(Project, project_id), spec)
    job = Job(
        project_id=project_id,
        number=db.next_number(session, project_id),
        name=_name(body),
        vm=shape.name,
        device=shape.device,
        num_devices=spec.num_devices,
        spec=spec.model_dump(mode="json"),
        shell=body.shell.model_dump(mode="json"),
        git=body.git.model_dump(mode="json") if body.git else None,
        datasets=_mounts(session, project_id, spec.data),
        created_by=user_id,
    )
    if spec.checkpoint.input is not None:
        given = checkpoint.find_ready(session, project_id, spec.checkpoint.input.id)
        job.input_checkpoint_id = given.id
    if body.workspace is not None:
        hold_snapshot(session, project_id, body.workspace.snapshot_id)
        job.workspace_snapshot_id = body.workspace.snapshot_id
        job.workspace_name = body.workspace.name
    session.add(job)
    session.flush()
    username = session.get_one(User, user_id).username
    add_event(session, job.id, "waiting", f"Submitted by {username}.")
    return present((job, username))


def _mounts(session: Session, project_id: str, sections: list[DataSection]) -> list[dict[str, Any]]:
    """What the data sets of a job file are now; a later change of a name changes no job."""
    mounts: list[dict[str, Any]] = []
    for section in sections:
        if section.name.startswith(HUB_PREFIX):
            mounts.append({"name": section.name, "mount_path": section.mount_path})
            continue
        dataset, _, _ = dataset_service.find(session, project_id, section.name)
        if dataset.snapshot_id is None:
            credential_of(session, dataset)
        mounts.append(
            {
                "name": dataset.name,
                "dataset_id": dataset.id,
                "version": dataset.version,
                "snapshot_id": dataset.snapshot_id,
                "mount_path": section.mount_path,
            }
        )
    return mounts


def _name(body: m.JobCreate) -> str:
    given = (body.spec.name or "").strip()
    name = given or (body.workspace.name if body.workspace else "") or "job"
    if name == "latest" or name.isdigit():
        # Wherever a job is asked for, these mean another one.
        if given:
            raise InvalidRequestError(
                f"A job cannot be named {name!r}: that means the newest job, or a job by number.",
                code="invalid_name",
                data={"field": "name"},
            )
        name = "job"
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidRequestError(
            f"A job's name is 1 to {_LONGEST_NAME} printable characters.", data={"field": "name"}
        )
    return name


def find(session: Session, project_id: str, text: str) -> JobRow:
    """A job by number, name, id, unique id prefix or ``latest``.

    Raises:
        NotFoundError: nothing fits (``job_not_found``).
        ConflictError: several fit (``ambiguous``, their numbers in ``data["candidates"]``).
    """
    if text == "latest":
        newest = db.newest_job(session, project_id)
        return _only([newest] if newest else [], text, "project has no job yet")
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    row = db.job_numbered(session, project_id, int(text)) if is_number else None
    row = row or db.job_with_id(session, project_id, text)
    if row is not None:
        return row
    fitting = db.jobs_named(session, project_id, text)
    # The number of no job must not hit another by its id, which `pf job list` cuts to 8 characters.
    if not fitting and (not is_number or len(text) >= 8):
        fitting = db.jobs_with_prefix(session, project_id, text)
    return _only(fitting, text)


def _only(rows: list[JobRow], text: str, why: str | None = None) -> JobRow:
    if len(rows) == 1:
        return rows[0]
    if not rows:
        raise _not_found(f"There is no job {text!r}." if why is None else f"This {why}.")
    numbers = [job.number for job, _ in rows]
    raise ConflictError(
        f"Several jobs go by {text!r}: {', '.join(map(str, numbers))}.",
        code="ambiguous",
        hint=f"Name one by its number, say {numbers[0]}.",
        data={"candidates": numbers},
    )


def hold(session: Session, row: JobRow) -> Job:
    """The job, which nobody else changes until the transaction ends.

    Raises:
        NotFoundError: it was deleted at this moment (``job_not_found``).
    """
    job = lock(session, row[0])
    if job.deleted_at is not None:
        raise _not_found(f"There is no job {job.number}.")
    return job


def _not_found(message: str) -> NotFoundError:
    return NotFoundError(message, code="job_not_found", hint="Run `pf job list`.")


def list_jobs(
    session: Session,
    project_id: str,
    user_id: str,
    chosen: m.JobFilter,
    *,
    cursor: str | None,
    limit: int,
) -> tuple[list[m.Job], str | None]:
    """A page of the project's jobs that fit, newest first, and the cursor of the next one."""
    if cursor is not None and not (cursor.isdecimal() and len(cursor) < 10):
        raise InvalidRequestError("This cursor is not one of this list.")
    before = int(cursor) if cursor else None
    rows = db.jobs_of(session, project_id, user_id, chosen, before=before, limit=limit + 1)
    following = str(rows[limit - 1][0].number) if len(rows) > limit else None
    return [present(row) for row in rows[:limit]], following


def present(row: JobRow) -> m.Job:
    """A job as it goes over the wire."""
    return m.Job.model_validate(_fields(row))


def detail(session: Session, store: Store, row: JobRow) -> m.JobDetail:
    """A job with its history, and the last lines of its log if it has failed."""
    job, _ = row
    checkpoints = checkpoints_of(session, job.project_id, job_id=job.id, limit=_SHOWN_CHECKPOINTS)
    return m.JobDetail(
        **_fields(row),
        spec=job.spec,
        datasets=[_dataset(mount) for mount in job.datasets],
        config=job.config,
        attempts=[m.Attempt.model_validate(one) for one in attempts_of(session, job.id)],
        nodes=_nodes(session, job),
        events=[m.Event.model_validate(event) for event in events_of(session, job.id)],
        checkpoints=[checkpoint.present(one) for one in checkpoints],
        log_tail=_log_tail(session, store, job),
        **durability(session, job),
        system=_system(session, job),
    )


def _dataset(mount: dict[str, Any]) -> m.JobDataset:
    snapshot_id = mount.get("snapshot_id")
    version = mount.get("version") if snapshot_id is not None else None
    return m.JobDataset(name=mount["name"], version=version, snapshot_id=snapshot_id)


def _nodes(session: Session, job: Job) -> list[m.NodeState]:
    attempt = newest_attempt(session, job.id)
    members = nodes_of(session, attempt.id) if attempt else []
    names = [name for name in m.NodeState.model_fields if name != "node"]
    return [
        m.NodeState(node=each.rank, **{name: getattr(each, name) for name in names})
        for each in members
    ]


def _system(session: Session, job: Job) -> m.JobSystem | None:
    attempt = newest_attempt(session, job.id)
    if attempt is None or not (attempt.system or job.git):
        return None
    nodes = sorted((attempt.system or {}).values(), key=lambda node: node["node"])
    return m.JobSystem.model_validate({"attempt": attempt.number, "git": job.git, "nodes": nodes})


def _log_tail(session: Session, store: Store, job: Job) -> list[str]:
    if job.status != "failed":
        return []
    tail = LogReader(session, store, job).tail(LOG_TAIL_LINES)
    return [line.text for line in tail.lines] or job.log_tail


def _fields(row: JobRow) -> dict[str, object]:
    job, username = row
    fields = {name: getattr(job, name) for name in m.Job.model_fields if name != "data"}
    names = ", ".join(mount["name"] for mount in job.datasets)
    return {**fields, "created_by": username, "data": names or None}


def stop(session: Session, row: JobRow, *, now: bool = False) -> m.Job:
    """End a job: at once while it waits, else by its agents.

    Args:
        now: Without waiting for it to save; so is a second stop.

    Raises:
        ConflictError: it has ended already (``job_finished``).
    """
    job = hold(session, row)
    if job.status in m.TERMINAL_STATUSES:
        raise ConflictError(
            f"Job {job.number} has ended already: {job.status}.",
            code="job_finished",
            hint=f"Run `pf job view {job.number}`.",
            data={"status": job.status},
        )
    if job.status == "waiting":
        job.status, job.reason = "stopped", "stopped on request"
        job.finished_at = utcnow()
        note_change(session, job, "stopped", "The job was stopped while it waited.")
        return present(row)
    is_second = job.status == "stopping"
    attempt = newest_attempt(session, job.id)
    if not is_second:
        job.status, job.reason = "stopping", "stopped on request"
        add_event(session, job.id, "stopping", "The job was asked to stop.")
    if attempt is not None:
        at_once = now or is_second
        attempts.notice(session, job, attempt, utcnow(), utcnow() if at_once else None)
    return present(row)


def preempt(session: Session, row: JobRow, grace_seconds: float | None) -> m.Job:
    """Tell a running job that its node will be taken.

    Args:
        grace_seconds: When it is; None stands for the usual grace.

    Raises:
        ConflictError: it does not run (``job_not_running``).
    """
    job = hold(session, row)
    attempt = newest_attempt(session, job.id)
    if job.status != "running" or attempt is None:
        raise ConflictError(
            f"Job {job.number} is {job.status}, not running.",
            code="job_not_running",
            hint=f"Run `pf job view {job.number}`.",
            data={"status": job.status},
        )
    deadline = utcnow() + timedelta(seconds=grace_seconds or GRACE_SECONDS)
    attempts.notice(session, job, attempt, utcnow(), deadline)
    return present(row)


def delete_job(session: Session, access: ProjectAccess, text: str, *, dry_run: bool) -> None:
    """Delete a job that has ended. What it had goes in the background, what it used stays known.

    Args:
        dry_run: Only see whether that may be done.

    Raises:
        NotFoundError: ``job_not_found``.
        ForbiddenError: somebody else made it (``not_yours``).
        ConflictError: it has not ended (``job_running``), or a job that has not starts from one of
            its checkpoints (``checkpoint_in_use``).
    """
    project = checkpoint.hold_project(session, access.project_id)
    job = hold(session, find(session, access.project_id, text))
    require_own(access, job.created_by, Action.JOB_DELETE_ANY)
    if job.status not in m.TERMINAL_STATUSES:
        is_ending = job.status == "stopping"
        raise ConflictError(
            f"Job {job.number} is {job.status}, and is deleted only when it has ended.",
            code="job_running",
            hint=f"Wait for its end: `pf job log -f {job.number}`."
            if is_ending
            else f"Stop it first: `pf job stop {job.number}`.",
            data={"status": job.status},
        )
    if jobs := jobs_given(session, job_id=job.id):
        raise checkpoint.in_use(f"A checkpoint of job {job.number}", jobs)
    if dry_run:
        return
    audit.note(session, access, "job.delete", f"{job.number} ({job.name})")
    keep_usage(session, project, job.id)
    for attempt in attempts_of(session, job.id):
        revoke_job_tokens(session, attempt.id)
    hide_job(job, utcnow())


def durability(session: Session, job: Job) -> dict[str, float | None]:
    """How far the job's newest checkpoint is behind, and how fast the last emergency was.

    Returns:
        ``steps_not_durable`` and ``notice_to_durable_seconds`` of a ``JobDetail``.
    """
    newest = newest_ready(session, job.id)
    behind = None if job.step is None else max(0, job.step - (newest.step if newest else 0))
    seconds = None
    if (emergency := newest_emergency(session, job.id)) is not None:
        noticed_at = session.get_one(Attempt, emergency.attempt_id).noticed_at
        if noticed_at is not None and emergency.finished_at is not None:
            seconds = (emergency.finished_at - noticed_at).total_seconds()
    return {"steps_not_durable": behind, "notice_to_durable_seconds": seconds}
