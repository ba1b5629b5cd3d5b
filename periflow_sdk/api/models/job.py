"""Jobs, their attempts and events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.api.models.checkpoint import Checkpoint
from periflow_sdk.api.models.system import GitState, JobSystem
from periflow_sdk.api.models.wire import Body, Wire

JobStatus = Literal[
    "waiting",
    "allocating",
    "preparing",
    "running",
    "stopping",
    "success",
    "failed",
    "stopped",
]
TERMINAL_STATUSES: frozenset[str] = frozenset({"success", "failed", "stopped"})
AttemptStatus = Literal[
    "allocating", "preparing", "running", "success", "failed", "stopped", "preempted", "node-lost"
]


class ShellEnvironment(Body):
    """What the command inherits from the shell that ran `pf job run`.

    ``variables`` holds PATH and the few variables that select a Python (VIRTUAL_ENV, ...).
    ``python`` is the interpreter that `python` names on that PATH, ``prefix`` its ``sys.prefix``.
    """

    python: str | None = None
    prefix: str | None = None
    variables: dict[str, str] = {}


class Workspace(Body):
    """The code folder: a snapshot, and the name it keeps below the mount path."""

    snapshot_id: str
    name: str


class JobCreate(Body):
    spec: JobSpec
    workspace: Workspace | None = None
    shell: ShellEnvironment = ShellEnvironment()
    git: GitState | None = None


class AttachedJobCreate(Body):
    """A run that was started outside shows up as a job. ``run_id`` is its own name for itself."""

    run_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    command: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    hostname: Annotated[str, StringConstraints(max_length=256)]
    num_ranks: Annotated[int, Field(ge=1, lt=1 << 20)] = 1


class SyncRequest(Body):
    """A member sends what the agent of a node could not."""

    attempt: Annotated[int, Field(ge=1)]
    node: Annotated[int, Field(ge=0)] = 0


class Event(Wire):
    """One line of a job's history. ``kind`` is a status or a short name (``warning``)."""

    time: datetime
    attempt: int | None = None
    kind: str
    message: str


class Attempt(Wire):
    number: int
    status: AttemptStatus
    reason: str | None = None
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class NodeState(Wire):
    """A node of the newest attempt: where its agent is, and what was last heard of it."""

    node: int
    devices: list[int] = []
    hostname: str | None = None
    address: str | None = None
    phase: str | None = None
    outcome: str | None = None
    exit_code: int | None = None
    heartbeat_at: datetime | None = None


class Job(Wire):
    """A job as `pf job list` shows it; ``step`` and ``total_steps`` are None until reported."""

    id: str
    number: int
    name: str
    status: JobStatus
    reason: str | None = None
    exit_code: int | None = None
    step: int | None = None
    total_steps: int | None = None
    vm: str
    device: str
    num_devices: int
    data: str | None = None
    created_by: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is no time of any job") from None


_Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class JobFilter(Wire):
    """Which jobs a list has: those that fit everything that is given.

    ``status``: any of these. ``since`` and ``until`` bound when the job was created. ``mine``:
    created by the caller.
    """

    status: list[JobStatus] = []
    since: _Moment | None = None
    until: _Moment | None = None
    name: Annotated[str, StringConstraints(max_length=128)] | None = None
    vm: Annotated[str, StringConstraints(max_length=128)] | None = None
    mine: bool = False


class PreemptRequest(Body):
    """``grace_seconds``: what the node has left; None stands for the server's usual grace."""

    grace_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None


class JobDataset(Wire):
    """A dataset of a job file; ``version`` and ``snapshot_id`` are of one that is kept here."""

    name: str
    version: int | None = None
    snapshot_id: str | None = None


class JobDetail(Job):
    """A job as `pf job view` shows it. ``log_tail`` is filled when the job has failed.

    ``steps_not_durable`` counts the steps done since the newest checkpoint that is ready: what a
    node that goes without notice takes with it. ``notice_to_durable_seconds`` is how long the
    newest emergency checkpoint took from the notice until it was ready. ``datasets`` are what the
    names in the job file meant when it was submitted.
    """

    spec: dict[str, Any]
    datasets: list[JobDataset] = []
    attempts: list[Attempt]
    nodes: list[NodeState] = []
    events: list[Event]
    checkpoints: list[Checkpoint]
    log_tail: list[str] = []
    config: dict[str, Any] | None = None
    steps_not_durable: int | None = None
    notice_to_durable_seconds: float | None = None
    system: JobSystem | None = None


class AttachedJob(Wire):
    """A job, and the token with which one node of it sends what it has.

    ``ended``: the attempt is over; what it left is still taken, and changes nothing else.
    """

    job: Job
    attempt: int
    token: str
    ended: bool
