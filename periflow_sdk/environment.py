"""Every PERIFLOW_* name the SDK and the agent read, read once into a frozen object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JobEnvironment:
    """What an agent tells a training process about its job.

    ``processed_steps`` is the step of the checkpoint this attempt started from (0 without one).
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
        rank=_integer(env.get("RANK"), 0),
        local_rank=_integer(env.get("LOCAL_RANK"), 0),
        world_size=_integer(env.get("WORLD_SIZE"), 1),
        node_rank=_integer(env.get("NODE_RANK"), 0),
        processed_steps=_integer(env.get("PROCESSED_ITERS"), 0),
    )


def home(variables: Mapping[str, str] | None = None) -> Path:
    """The folder of tokens, settings and the embedded server: PERIFLOW_HOME or ~/.periflow."""
    env = os.environ if variables is None else variables
    if configured := env.get("PERIFLOW_HOME"):
        return Path(configured).expanduser().absolute()
    return Path.home() / ".periflow"


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _integer(text: str | None, default: int) -> int:
    try:
        return int(text) if text else default
    except ValueError:
        return default
