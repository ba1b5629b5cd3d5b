"""Who gets devices next: first come, first served, for each VM type."""

from __future__ import annotations

from dataclasses import dataclass

from periflow_server.db.attempt import Attempt, Node, newest_attempt
from periflow_server.db.base import Session, utcnow
from periflow_server.db.checkpoint import newest_ready
from periflow_server.db.event import add_event
from periflow_server.db.job import Job, active_jobs, claim_waiting, waiting_jobs
from periflow_server.db.turn import take_turn
from periflow_server.services.token import issue_job_token
from periflow_server.services.vm import VmShape, free_devices, shapes, shapes_of


@dataclass(frozen=True)
class Placement:
    """An attempt that was just given its devices, and the job token of each node."""

    job: Job
    attempt: Attempt
    nodes: list[tuple[Node, str]]


def has_waiting(session: Session) -> bool:
    """Whether any job waits."""
    return bool(waiting_jobs(session))


def place(session: Session, site: str) -> list[Placement]:
    """Give devices to the waiting jobs, in their order, until one does not fit.

    A later job never overtakes one that waits for the same devices; one that pauses before a
    restart holds nobody up. The nodes of a job are placed all or none. While another server does
    this, there is nothing to do here: devices are counted and the order is kept by one at a time.

    Args:
        site: The server whose executor starts what is placed.
    """
    if not take_turn(session, "placement"):
        return []
    placed: list[Placement] = []
    held_up: set[str] = set()
    now = utcnow()
    for job in waiting_jobs(session):
        if job.eligible_at is not None and job.eligible_at > now:
            continue
        shape = shapes().get(job.vm)
        free = free_devices(session, shape) if shape else []
        if shape is None or job.device in held_up or len(free) < job.num_devices:
            _note_wait(session, job)
            if shape is not None and job.num_devices <= shape.quota:
                held_up.add(job.device)
            # Else this machine has become smaller: it may never fit, and holds nobody up.
        elif claim_waiting(session, job) is not None:
            placed.append(_begin(session, job, shape, free[: job.num_devices], site))
    return placed


def _begin(session: Session, job: Job, shape: VmShape, devices: list[int], site: str) -> Placement:
    last = newest_attempt(session, job.id)
    restore = newest_ready(session, job.id)
    attempt = Attempt(
        job_id=job.id,
        number=last.number + 1 if last else 1,
        restore_checkpoint_id=restore.id if restore else job.input_checkpoint_id,
    )
    session.add(attempt)
    session.flush()
    gang = shape.nodes_for(len(devices))
    nodes = [
        Node(
            attempt_id=attempt.id,
            rank=rank,
            devices=devices[rank * len(devices) // gang : (rank + 1) * len(devices) // gang],
            folder=f"{job.id}/{attempt.number}/{rank}",
            site=site,
        )
        for rank in range(gang)
    ]
    session.add_all(nodes)
    job.status, job.reason, job.eligible_at = "allocating", None, None
    job.step = restore.step if restore else None
    on_nodes = f" on {gang} nodes" if gang > 1 else ""
    message = f"Attempt {attempt.number} got {_count(len(devices), job.vm)}{on_nodes}."
    add_event(session, job.id, "allocating", message, attempt=attempt.number)
    session.flush()
    return Placement(job, attempt, [(node, _token(session, job, node)) for node in nodes])


def _token(session: Session, job: Job, node: Node) -> str:
    return issue_job_token(
        session,
        attempt_id=node.attempt_id,
        job_id=job.id,
        project_id=job.project_id,
        node_rank=node.rank,
    )


def _note_wait(session: Session, job: Job) -> None:
    """Say what the job waits for: in its history when the wait begins, in its reason always."""
    quota = shapes()[job.vm].quota if job.vm in shapes() else 0
    reason = f"Waiting for {job.num_devices} of {_count(quota, job.vm)}: {_cause(session, job)}"
    if job.reason == reason or claim_waiting(session, job) is None:
        return
    if not (job.reason or "").startswith("Waiting for "):
        add_event(session, job.id, "waiting", f"{reason}.")
    job.reason = reason


def _cause(session: Session, job: Job) -> str:
    sharing = shapes_of(job.device) or [job.vm]
    holders = [other for other in active_jobs(session) if other.vm in sharing]
    ahead = [
        other
        for other in waiting_jobs(session)
        if other.vm in sharing and (other.created_at, other.id) < (job.created_at, job.id)
    ]
    if not holders and not ahead:
        return "there are not so many here"
    if ahead:
        return f"{_names(ahead[:1], job)} is before it"
    return f"{_names(holders, job)} {'uses' if len(holders) == 1 else 'use'} them"


def _names(jobs: list[Job], reader: Job) -> str:
    """The jobs as the people of the reader's project may know them."""
    own = [str(other.number) for other in jobs if other.project_id == reader.project_id]
    if len(own) < len(jobs):
        others = "a job of another project"
        return f"job {', '.join(own)} and {others}" if own else others
    return f"job {own[0]}" if len(own) == 1 else f"jobs {', '.join(own[:-1])} and {own[-1]}"


def _count(devices: int, vm: str) -> str:
    return f"{devices} {vm} device" if devices == 1 else f"{devices} {vm} devices"
