"""What machine a job runs on."""

from __future__ import annotations

from periflow_sdk.api.models.wire import Wire


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
