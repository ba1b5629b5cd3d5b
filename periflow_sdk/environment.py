"""Every PERIFLOW_* name the SDK and the agent read, read once into a frozen object."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from periflow_sdk.errors import UsageError


@dataclass(frozen=True)
class JobEnvironment:
    """What an agent tells a training process about its job.

    ``processed_steps`` is the step of the checkpoint this attempt started from (0 without one),
    ``local_world_size`` the number of ranks that a launcher starts on this node (0 without one),
    ``num_nodes`` the number of nodes.
    ``memory_dir`` is where an attached run leaves states in memory; a job does in ``run_dir``.
    """

    run_dir: Path
    checkpoint_dir: Path | None
    restored_checkpoint: Path | None
    job: str
    rank: int
    local_rank: int
    world_size: int
    node_rank: int
    processed_steps: int
    local_world_size: int = 0
    num_nodes: int = 1
    memory_dir: Path | None = None


def job_environment(variables: Mapping[str, str] | None = None) -> JobEnvironment | None:
    """The job this process belongs to, or None outside a job.

    Args:
        variables: The environment to read; ``os.environ`` if None.
    """
    env = os.environ if variables is None else variables
    if env.get("PERIFLOW_ENABLED") != "1" or not env.get("PERIFLOW_RUN_DIR"):
        return None
    return JobEnvironment(
        run_dir=Path(env["PERIFLOW_RUN_DIR"]),
        checkpoint_dir=_path(env.get("CKPT_DIR")),
        restored_checkpoint=_path(env.get("PERIFLOW_RESTORED_CHECKPOINT")),
        job=env.get("PERIFLOW_JOB", ""),
        rank=process_rank(env),
        local_rank=_integer(env.get("LOCAL_RANK"), 0),
        world_size=process_world_size(env),
        node_rank=_integer(env.get("NODE_RANK"), 0),
        processed_steps=_integer(env.get("PROCESSED_ITERS"), 0),
        local_world_size=_integer(env.get("LOCAL_WORLD_SIZE"), 0),
        num_nodes=_integer(env.get("NUM_NODES"), 1),
    )


@dataclass(frozen=True)
class AttachEnvironment:
    """What the environment says of attaching a run outside a job.

    ``launch`` tells the starts of one launcher apart, ``is_launched`` that there is one.
    """

    is_wanted: bool
    url: str | None
    has_api_key: bool
    organization: str | None
    project: str | None
    local_rank: int
    local_world_size: int
    is_launched: bool
    launch: str


def attach_environment(variables: Mapping[str, str] | None = None) -> AttachEnvironment:
    """What a run outside a job needs to know to be attached.

    Args:
        variables: The environment to read; ``os.environ`` if None.
    """
    env = os.environ if variables is None else variables
    names = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    is_launched = bool(env.get("LOCAL_RANK")) or process_world_size(env) > 1
    return AttachEnvironment(
        is_wanted=env.get("PERIFLOW_ATTACH") == "1",
        url=env.get("PERIFLOW_URL") or None,
        has_api_key=bool(env.get("PERIFLOW_API_KEY")),
        organization=env.get("PERIFLOW_ORG") or None,
        project=env.get("PERIFLOW_PROJECT") or None,
        local_rank=_integer(env.get("LOCAL_RANK"), 0),
        local_world_size=max(1, _integer(env.get("LOCAL_WORLD_SIZE"), 1)),
        is_launched=is_launched,
        launch="/".join(env.get(name, "") for name in names) if is_launched else "",
    )


def process_rank(variables: Mapping[str, str] | None = None) -> int:
    """The rank of this process: RANK, else what an initialized torch.distributed says.

    Else it is the only one of its node, and has the first of the node's ranks (0 without a job).
    """
    env = os.environ if variables is None else variables
    if env.get("RANK"):
        return _integer(env.get("RANK"), 0)
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    if env.get("PERIFLOW_ENABLED") == "1":
        return _integer(env.get("NODE_RANK"), 0) * _integer(env.get("NPROC_PER_NODE"), 1)
    return 0


def process_world_size(variables: Mapping[str, str] | None = None) -> int:
    """The number of ranks: WORLD_SIZE, else 1."""
    env = os.environ if variables is None else variables
    return _integer(env.get("WORLD_SIZE"), 1)


def local_checkpoint_dir(variables: Mapping[str, str] | None = None) -> Path:
    """Where checkpoints go outside a job: CKPT_DIR or ./checkpoints."""
    env = os.environ if variables is None else variables
    return Path(env.get("CKPT_DIR") or "checkpoints").absolute()


def home(variables: Mapping[str, str] | None = None) -> Path:
    """The folder of tokens, settings and the embedded server: PERIFLOW_HOME or ~/.periflow."""
    env = os.environ if variables is None else variables
    if configured := env.get("PERIFLOW_HOME"):
        return Path(configured).expanduser().absolute()
    return Path.home() / ".periflow"


@dataclass(frozen=True)
class CacheEnvironment:
    """Where datasets are kept on this machine; ``capacity_bytes`` is None if nobody says."""

    folder: Path
    capacity_bytes: int | None


def cache_environment(variables: Mapping[str, str] | None = None) -> CacheEnvironment:
    """PERIFLOW_CACHE_DIR (or ``cache`` in the home) and PERIFLOW_CACHE_BYTES (``200G``, ``1.5T``).

    Args:
        variables: The environment to read; ``os.environ`` if None.

    Raises:
        UsageError: The number cannot be read.
    """
    env = os.environ if variables is None else variables
    folder = env.get("PERIFLOW_CACHE_DIR")
    return CacheEnvironment(
        folder=Path(folder).expanduser().absolute() if folder else home(env) / "cache",
        capacity_bytes=_bytes(env.get("PERIFLOW_CACHE_BYTES")),
    )


@dataclass(frozen=True)
class DataMount:
    """A dataset that the job finds in a folder of its own.

    ``path`` is that folder, a view that the job may write to; ``original`` what lies beneath it.
    """

    path: str
    original: str
    version: int | None


@dataclass(frozen=True)
class DataEnvironment:
    """How a process may ask for datasets.

    ``token_file`` is None outside a job; ``run`` names what the processes of one attempt on one
    machine have in common.
    ``mounts`` has the datasets that the job finds in folders, by name.
    """

    url: str | None
    token_file: Path | None
    api_key: str | None = field(repr=False)
    organization: str | None
    project: str | None
    mounts: Mapping[str, DataMount]
    run: str | None = None


def data_environment(variables: Mapping[str, str] | None = None) -> DataEnvironment:
    """What this process has to know to find datasets.

    Args:
        variables: The environment to read; ``os.environ`` if None.
    """
    env = os.environ if variables is None else variables
    is_job = env.get("PERIFLOW_ENABLED") == "1"
    return DataEnvironment(
        url=env.get("PERIFLOW_URL") or None,
        token_file=_path(env.get("PERIFLOW_TOKEN_FILE")) if is_job else None,
        api_key=(env.get("PERIFLOW_API_KEY") or "").strip() or None,
        organization=env.get("PERIFLOW_ORG") or None,
        project=env.get("PERIFLOW_PROJECT") or None,
        mounts=_mounts(env.get("PERIFLOW_DATASETS")) if is_job else {},
        run=(env.get("PERIFLOW_RUN_DIR") or None) if is_job else None,
    )


def _mounts(text: str | None) -> dict[str, DataMount]:
    import json

    try:
        return {name: DataMount(**each) for name, each in json.loads(text or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _bytes(text: str | None) -> int | None:
    if not text:
        return None
    units = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].upper() in units else (text, "")
    try:
        size = float(number) * units.get(unit, 1)
    except ValueError:
        size = -1.0
    if not 0 < size < 1e18:
        raise UsageError(
            f"PERIFLOW_CACHE_BYTES is {text!r}, which is no number of bytes",
            hint="for example PERIFLOW_CACHE_BYTES=200G",
        )
    return int(size)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _integer(text: str | None, default: int) -> int:
    try:
        return int(text) if text else default
    except ValueError:
        return default
