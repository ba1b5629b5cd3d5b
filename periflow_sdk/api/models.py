"""What goes over the wire, once: every request and answer of the control plane."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from periflow_sdk.api.jobfile import JobSpec

Name = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    ),
]
Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, max_length=254, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
    ),
]
Password = Annotated[str, StringConstraints(min_length=8, max_length=256)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

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
SaveType = Literal["NORMAL", "EMERGENCY"]
CheckpointStatus = Literal["uploading", "ready", "failed"]
AttemptStatus = Literal[
    "allocating", "preparing", "running", "success", "failed", "stopped", "preempted", "node-lost"
]


class Wire(BaseModel):
    """Answers: unknown keys are ignored, so that an older client reads a newer server."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)


class Body(BaseModel):
    """Requests: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class ServerInfo(Wire):
    """`GET /server`: open to all. ``proof`` is HMAC-SHA256(key file, nonce) when embedded."""

    version: str
    pid: int
    embedded: bool
    data_dir: str | None = None
    proof: str | None = None


class SignupRequest(Body):
    username: Name
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)]
    email: Email
    password: Password


class PendingSignup(Wire):
    username: str
    email: str
    expires_at: datetime


class SignupConfirmation(Body):
    username: Name
    code: Annotated[str, StringConstraints(strip_whitespace=True, min_length=4, max_length=16)]


class LoginRequest(Body):
    """``username`` may be the email address."""

    username: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=254)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class RefreshRequest(Body):
    refresh_token: str


class User(Wire):
    id: str
    username: str
    name: str
    email: str
    created_at: datetime


class Session(Wire):
    """Tokens of a login. Both are opaque; ``expires_at`` is that of the access token."""

    access_token: str
    refresh_token: str
    expires_at: datetime
    user: User


class OrganizationCreate(Body):
    name: Name


class Organization(Wire):
    id: str
    name: str
    status: Literal["staged", "active"]
    role: Literal["owner", "member"]
    created_at: datetime


class ProjectCreate(Body):
    name: Name


class Project(Wire):
    id: str
    name: str
    organization_id: str
    role: Literal["admin", "maintainer", "developer", "guest"]
    created_at: datetime


class ChunkRef(Body):
    """A chunk by its blake3 hash (hex) and size in bytes."""

    hash: Hash
    size: Annotated[int, Field(ge=0)]


class ChunkQuery(Body):
    chunks: Annotated[list[ChunkRef], Field(max_length=4096)]


class ChunkLocation(Wire):
    """Where to PUT or GET one chunk.

    ``path`` is set by a server that keeps chunks in a local folder: a client of the same user on
    the same machine may copy the file itself (under a temporary name, then rename).
    """

    hash: str
    url: str
    path: str | None = None


class ChunkLocations(Wire):
    """The chunks asked for; for an upload, only those the store does not have yet."""

    chunks: list[ChunkLocation]


class Snapshot(Wire):
    id: str
    size: int
    file_count: int
    created_at: datetime


class DatasetCreate(Body):
    name: Name
    snapshot_id: str
    metadata: dict[str, Any] = {}


class Dataset(Wire):
    id: str
    name: str
    cloud: str
    region: str | None = None
    storage_name: str | None = None
    active: bool
    metadata: dict[str, Any] = {}
    snapshot_id: str | None = None
    size: int
    file_count: int
    created_by: str
    created_at: datetime


class VmType(Wire):
    vm: str
    cloud: str
    region: str
    device: str
    devices_per_node: int
    quota: int
    available: int


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


class GitState(Wire):
    """Where the code stands: ``diff_bytes`` is the size of what is changed and not committed."""

    commit: str
    branch: str | None = None
    dirty: bool = False
    diff_bytes: int = 0


class Gpu(Wire):
    name: str
    memory_bytes: int


class NodeSystem(Wire):
    """The machine of one node and the job's Python on it, as its agent found them.

    ``packages`` are the distributions that the job's Python sees, name → version.
    """

    node: int = 0
    hostname: str
    os: str
    cpu: str
    cpu_count: int
    memory_bytes: int
    gpus: list[Gpu] = []
    python: str | None = None
    packages: dict[str, str] = {}
    git: GitState | None = None


class JobSystem(Wire):
    """What the newest attempt runs on; ``git`` is the code's state when it was sent or started."""

    attempt: int
    git: GitState | None = None
    nodes: list[NodeSystem] = []


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


class Checkpoint(Wire):
    id: str
    job: int
    step: int
    save_type: SaveType
    status: CheckpointStatus
    size: int
    created_at: datetime
    snapshot_id: str | None = None
    reason: str | None = None


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


class PreemptRequest(Body):
    """``grace_seconds``: what the node has left; None stands for the server's usual grace."""

    grace_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None


class JobDetail(Job):
    """A job as `pf job view` shows it. ``log_tail`` is filled when the job has failed.

    ``steps_not_durable`` counts the steps done since the newest checkpoint that is ready: what a
    node that goes without notice takes with it. ``notice_to_durable_seconds`` is how long the
    newest emergency checkpoint took from the notice until it was ready.
    """

    spec: dict[str, Any]
    attempts: list[Attempt]
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


class LogLine(Wire):
    time: datetime
    attempt: int
    node: int
    text: str


class LogPage(Wire):
    """Some lines of a job's log.

    ``cursor`` asks for what follows; ``complete`` says that nothing will follow (the job has
    ended and its last line is in this page or before it).
    """

    lines: list[LogLine]
    cursor: str
    complete: bool
    status: JobStatus


class MetricName(Wire):
    name: str
    kind: Literal["number", "text"]
    ranks: list[int]
    count: int
    last_step: int
    last_value: float | str | None


class MetricSeries(Wire):
    """One metric of one rank, newest attempt first where attempts overlap.

    ``rank`` is None for the mean over the ranks at each step.
    ``steps``, ``times`` (unix seconds) and ``values`` have one length. NaN and infinities are the
    strings "NaN", "Infinity" and "-Infinity".
    """

    name: str
    rank: int | None
    steps: list[int]
    times: list[float]
    values: list[float | str]


class DataMount(Wire):
    name: str
    snapshot_id: str
    mount_path: str


class WorkspaceMount(Wire):
    snapshot_id: str
    name: str
    mount_path: str


class RestorePoint(Wire):
    """The checkpoint an attempt starts from."""

    checkpoint_id: str
    snapshot_id: str
    step: int


class Assignment(Wire):
    """Everything an agent needs to run its node of an attempt.

    ``devices`` are the indices of the devices given to this node (for CUDA_VISIBLE_DEVICES).
    ``older`` are the job's checkpoints before ``restore``, newest first, for when that is damaged.
    """

    job_id: str
    job: int
    name: str
    project_id: str
    attempt: int
    node_rank: int
    num_nodes: int
    devices_per_node: int
    devices: list[int] = []
    device: str
    spec: JobSpec
    shell: ShellEnvironment
    workspace: WorkspaceMount | None = None
    data: list[DataMount] = []
    restore: RestorePoint | None = None
    older: list[RestorePoint] = []
    grace_seconds: float


class AgentRegister(Body):
    """An agent says where it is. ``port`` is free there, for MASTER_PORT."""

    hostname: str
    address: str
    port: int
    pid: int


class Rendezvous(Wire):
    """``ready`` when the whole gang has registered."""

    ready: bool
    master_addr: str = ""
    master_port: int = 0


class AgentHeartbeat(Body):
    """``step`` is the largest finished step of this node's ranks.

    ``notice_age_seconds``: how long ago this node heard that it will be taken; None if it did not.
    """

    phase: Literal["preparing", "running", "finishing"]
    step: int | None = None
    total_steps: int | None = None
    notice_age_seconds: Annotated[float, Field(ge=0)] | None = None


class AgentOrders(Wire):
    """What the control plane wants: go on, stop the training, or leave (superseded).

    ``preempt``: the node will be taken. ``grace_seconds`` is what is left until then, or until a
    stop ends the training by force; None stands for the assignment's grace.
    """

    stop: bool = False
    superseded: bool = False
    preempt: bool = False
    grace_seconds: float | None = None


class AgentEvent(Body):
    kind: Annotated[str, StringConstraints(max_length=32)]
    message: Annotated[str, StringConstraints(max_length=2000)]


class CheckpointStart(Body):
    """A checkpoint was staged. ``upload_id`` is the agent's own and makes retries harmless."""

    upload_id: str
    step: int
    save_type: SaveType
    size: int


class CheckpointCommit(Body):
    """Exactly one of ``snapshot_id`` (it is whole) and ``failure`` (why it is not)."""

    snapshot_id: str | None = None
    failure: str | None = None


class AgentFinish(Body):
    """The command has ended and everything it left is shipped.

    ``outcome``: ``exited`` (see exit_code; 128+n after signal n), ``stopped`` (ended because it
    was told to), ``error`` (never ran, or its end is unknown; see reason), ``lost`` (the machine
    took it away, by a restart say: the job's restart rules apply) or ``preempted`` (it left its
    loop, or was ended, because its node will be taken; see reason for what was saved).
    """

    outcome: Literal["exited", "stopped", "error", "lost", "preempted"]
    exit_code: int | None = None
    reason: str | None = None
    log_tail: list[str] = []


class Accepted(Wire):
    """The next offset the server wants of a journal segment or a log."""

    offset: int
