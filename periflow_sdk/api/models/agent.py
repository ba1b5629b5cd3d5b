"""What a node agent asks, tells and is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.api.models.job import ShellEnvironment
from periflow_sdk.api.models.wire import Body, Int32, Int64, Wire


class DataMount(Wire):
    """A dataset of a job as it was when the job was submitted; a linked one has no snapshot."""

    name: str
    snapshot_id: str | None = None
    mount_path: str | None
    dataset_id: str | None = None
    version: int = 1


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
    port: Int32
    pid: Int32


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
    step: Int64 | None = None
    total_steps: Int64 | None = None
    notice_age_seconds: Annotated[float, Field(ge=0, lt=1e9)] | None = None


class AgentOrders(Wire):
    """What the control plane wants: go on, stop the training, or leave (superseded).

    ``preempt``: the node will be taken. ``grace_seconds`` is what is left until then, or until a
    stop ends the training by force; None stands for the assignment's grace. ``end``: another node
    of the attempt has ended badly; end the command without a save, and send what is there.
    """

    stop: bool = False
    superseded: bool = False
    preempt: bool = False
    end: bool = False
    grace_seconds: float | None = None


class AgentEvent(Body):
    kind: Annotated[str, StringConstraints(max_length=32)]
    message: Annotated[str, StringConstraints(max_length=2000)]


class AgentFinish(Body):
    """The command has ended and everything it left is shipped.

    ``outcome``: ``exited`` (see exit_code; 128+n after signal n), ``stopped`` (ended because it
    was told to), ``error`` (never ran, or its end is unknown; see reason), ``lost`` (the machine
    took it away, by a restart say: the job's restart rules apply) or ``preempted`` (it left its
    loop, or was ended, because its node will be taken; see reason for what was saved).
    ``finished_early``: the script said that it is done although planned steps are left.
    """

    outcome: Literal["exited", "stopped", "error", "lost", "preempted"]
    exit_code: Int32 | None = None
    reason: str | None = None
    log_tail: list[str] = []
    finished_early: bool = False


class Accepted(Wire):
    """The next offset the server wants of a journal segment or a log."""

    offset: int
