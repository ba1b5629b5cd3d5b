"""What agents ask and tell; every call may come twice."""

from __future__ import annotations

from datetime import timedelta

from periflow_sdk.api import models as m
from periflow_sdk.api.jobfile import JobSpec
from periflow_server.db.attempt import Attempt, nodes_of
from periflow_server.db.base import Session, utcnow
from periflow_server.db.checkpoint import Checkpoint, ready_of
from periflow_server.db.event import add_event, find_event
from periflow_server.db.job import Job
from periflow_server.services import attempt as attempts
from periflow_server.services import gang
from periflow_server.services.token import AttemptIdentity

_MOST_OLDER = 20
GRACE_SECONDS = 30.0
"""How long a command may take to end after it was told to."""


def assignment(session: Session, identity: AttemptIdentity) -> m.Assignment:
    """Everything the agent of one node needs."""
    job, attempt, node = attempts.of_agent(session, identity, to_change=False)
    spec = JobSpec.model_validate(job.spec)
    workspace = None
    if job.workspace_snapshot_id is not None:
        workspace = m.WorkspaceMount(
            snapshot_id=job.workspace_snapshot_id,
            name=job.workspace_name or job.name,
            mount_path=spec.job_setting.workspace.mount_path,
        )
    return m.Assignment(
        job_id=job.id,
        job=job.number,
        name=job.name,
        project_id=job.project_id,
        attempt=attempt.number,
        node_rank=node.rank,
        num_nodes=len(nodes_of(session, attempt.id)),
        devices_per_node=len(node.devices),
        devices=node.devices,
        device=job.device,
        spec=spec,
        shell=m.ShellEnvironment.model_validate(job.shell),
        workspace=workspace,
        data=[m.DataMount.model_validate(mount) for mount in job.datasets],
        restore=_restore_point(session, attempt),
        older=_older_points(session, job, attempt),
        grace_seconds=GRACE_SECONDS,
    )


def _restore_point(session: Session, attempt: Attempt) -> m.RestorePoint | None:
    if attempt.restore_checkpoint_id is None:
        return None
    return _point(session.get_one(Checkpoint, attempt.restore_checkpoint_id))


def _older_points(session: Session, job: Job, attempt: Attempt) -> list[m.RestorePoint]:
    """What the attempt starts from when its restore point turns out to be damaged."""
    ready = ready_of(session, job.id, limit=_MOST_OLDER + 1)
    ids = [checkpoint.id for checkpoint in ready]
    if attempt.restore_checkpoint_id not in ids:
        return []
    return [_point(each) for each in ready[ids.index(attempt.restore_checkpoint_id) + 1 :]]


def _point(checkpoint: Checkpoint) -> m.RestorePoint:
    return m.RestorePoint(
        checkpoint_id=checkpoint.id,
        snapshot_id=str(checkpoint.snapshot_id),
        step=checkpoint.step,
    )


def register(session: Session, identity: AttemptIdentity, body: m.AgentRegister) -> m.Rendezvous:
    """Note where an agent is; the attempt prepares once the whole gang is there."""
    job, attempt, node = attempts.of_agent(session, identity)
    node.hostname, node.address = body.hostname, body.address
    node.port, node.pid = body.port, body.pid
    node.registered_at = node.registered_at or utcnow()
    node.heartbeat_at = utcnow()
    members = nodes_of(session, attempt.id)
    if any(member.registered_at is None for member in members):
        return m.Rendezvous(ready=False)
    attempts.prepare(session, job, attempt)
    return m.Rendezvous(
        ready=True, master_addr=members[0].address or "", master_port=members[0].port or 0
    )


def heartbeat(session: Session, identity: AttemptIdentity, body: m.AgentHeartbeat) -> m.AgentOrders:
    """Note that an agent lives and how far it is, and tell it what is wanted."""
    job, attempt, node = attempts.of_agent(session, identity)
    if identity.is_late:
        return m.AgentOrders()
    node.heartbeat_at = utcnow()
    node.phase = body.phase
    if body.phase == "running":
        # Not before: an agent that ends again and again while it prepares has to be noticed.
        node.starts = 0
    if body.phase == "preparing":
        attempts.prepare(session, job, attempt)
    else:
        attempts.run(session, job, attempt)
    note_progress(job, body.step, body.total_steps)
    if body.notice_age_seconds is not None:
        # The age and not the moment: the node's clock may be wrong.
        since = utcnow() - timedelta(seconds=body.notice_age_seconds)
        attempts.notice(session, job, attempt, since, None)
    return _orders(job, attempt)


def _orders(job: Job, attempt: Attempt) -> m.AgentOrders:
    left = None
    if attempt.deadline_at is not None:
        left = max(0.0, (attempt.deadline_at - utcnow()).total_seconds())
    is_stopping = job.status == "stopping"
    return m.AgentOrders(
        stop=is_stopping,
        preempt=attempt.noticed_at is not None and not is_stopping,
        end=attempt.verdict is not None,
        grace_seconds=left,
    )


def note_system(session: Session, identity: AttemptIdentity, body: m.NodeSystem) -> None:
    """Keep what an agent says of its machine."""
    job, attempt, node = attempts.of_agent(session, identity)
    document = body.model_dump(mode="json", exclude={"git"})
    attempt.system = {**(attempt.system or {}), str(node.rank): {**document, "node": node.rank}}
    if body.git is not None and job.git is None:
        job.git = body.git.model_dump(mode="json")


def note_progress(job: Job, step: int | None, total_steps: int | None) -> None:
    """The current attempt has finished ``step``; None says nothing."""
    if step is not None and step > (job.step or 0):
        job.step = step
    if total_steps:
        job.total_steps = total_steps


def report(session: Session, identity: AttemptIdentity, body: m.AgentEvent) -> None:
    """Put a word of the agent into the job's history, once."""
    job, attempt, _ = attempts.of_agent(session, identity)
    known = find_event(session, job.id, body.kind, attempt=attempt.number, message=body.message)
    if known is None:
        add_event(session, job.id, body.kind, body.message, attempt=attempt.number)


def finish(session: Session, identity: AttemptIdentity, body: m.AgentFinish) -> None:
    """A node's command has ended, and the attempt with it; of several nodes see :mod:`.gang`.

    A node that was told to stop and then left with an error, or as in a preemption, was stopped.
    """
    job, attempt, node = attempts.of_agent(session, identity)
    outcome = body.outcome
    left_early = outcome == "preempted" or (outcome == "exited" and body.exit_code)
    if left_early and job.status == "stopping":
        outcome = "stopped"
    node.outcome, node.exit_code = outcome, body.exit_code
    attempt.finished_early |= body.finished_early
    if len(nodes_of(session, attempt.id)) > 1:
        gang.finish_node(session, job, attempt, node, body)
    elif outcome == "lost":
        attempts.lose(session, job, attempt, "node-lost", body.reason or "its node was lost")
    elif outcome == "preempted":
        reason = (body.reason or "its node was taken").rstrip(".")
        attempts.lose(session, job, attempt, "preempted", reason, body.exit_code)
    elif outcome == "error" or (outcome == "exited" and body.exit_code != 0):
        job.log_tail = [line[:4096] for line in body.log_tail[-attempts.LOG_TAIL_LINES :]]
        attempts.fail(session, job, attempt, _reason(body), body.exit_code)
    elif outcome == "stopped":
        attempts.stop(session, job, attempt, body.exit_code)
    else:
        attempts.succeed(session, job, attempt)


def _reason(body: m.AgentFinish) -> str:
    if body.reason:
        return body.reason.rstrip(".")
    if body.exit_code is None:
        return "the end of the command is unknown"
    return attempts.exit_reason(body.exit_code)
