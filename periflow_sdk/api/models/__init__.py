"""What goes over the wire, once: every request and answer of the control plane."""

from __future__ import annotations

from periflow_sdk.api.models.account import (
    LoginRequest,
    PendingSignup,
    RefreshRequest,
    Session,
    SignupConfirmation,
    SignupRequest,
    User,
)
from periflow_sdk.api.models.agent import (
    Accepted,
    AgentEvent,
    AgentFinish,
    AgentHeartbeat,
    AgentOrders,
    AgentRegister,
    Assignment,
    DataMount,
    Rendezvous,
    RestorePoint,
    WorkspaceMount,
)
from periflow_sdk.api.models.checkpoint import (
    Checkpoint,
    CheckpointCommit,
    CheckpointStart,
    CheckpointStatus,
    SaveType,
)
from periflow_sdk.api.models.dataset import Dataset, DatasetCreate
from periflow_sdk.api.models.job import (
    TERMINAL_STATUSES,
    AttachedJob,
    AttachedJobCreate,
    Attempt,
    AttemptStatus,
    Event,
    Job,
    JobCreate,
    JobDetail,
    JobStatus,
    NodeState,
    PreemptRequest,
    ShellEnvironment,
    SyncRequest,
    Workspace,
)
from periflow_sdk.api.models.log import LogLine, LogPage
from periflow_sdk.api.models.metric import MetricName, MetricSeries
from periflow_sdk.api.models.organization import Organization, OrganizationCreate
from periflow_sdk.api.models.project import Project, ProjectCreate
from periflow_sdk.api.models.server import ServerInfo
from periflow_sdk.api.models.snapshot import (
    ChunkLocation,
    ChunkLocations,
    ChunkQuery,
    ChunkRef,
    Snapshot,
)
from periflow_sdk.api.models.system import GitState, Gpu, JobSystem, NodeSystem
from periflow_sdk.api.models.vm import VmType
from periflow_sdk.api.models.wire import Body, Email, Hash, Name, Password, Wire

__all__ = [
    "TERMINAL_STATUSES",
    "Accepted",
    "AgentEvent",
    "AgentFinish",
    "AgentHeartbeat",
    "AgentOrders",
    "AgentRegister",
    "Assignment",
    "AttachedJob",
    "AttachedJobCreate",
    "Attempt",
    "AttemptStatus",
    "Body",
    "Checkpoint",
    "CheckpointCommit",
    "CheckpointStart",
    "CheckpointStatus",
    "ChunkLocation",
    "ChunkLocations",
    "ChunkQuery",
    "ChunkRef",
    "DataMount",
    "Dataset",
    "DatasetCreate",
    "Email",
    "Event",
    "GitState",
    "Gpu",
    "Hash",
    "Job",
    "JobCreate",
    "JobDetail",
    "JobStatus",
    "JobSystem",
    "LogLine",
    "LogPage",
    "LoginRequest",
    "MetricName",
    "MetricSeries",
    "Name",
    "NodeState",
    "NodeSystem",
    "Organization",
    "OrganizationCreate",
    "Password",
    "PendingSignup",
    "PreemptRequest",
    "Project",
    "ProjectCreate",
    "RefreshRequest",
    "Rendezvous",
    "RestorePoint",
    "SaveType",
    "ServerInfo",
    "Session",
    "ShellEnvironment",
    "SignupConfirmation",
    "SignupRequest",
    "Snapshot",
    "SyncRequest",
    "User",
    "VmType",
    "Wire",
    "Workspace",
    "WorkspaceMount",
]
