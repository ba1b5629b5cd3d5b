"""The job file: its fields, and reading it with line and column in every complaint."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DockerCommand(_Section):
    setup: str | None = None
    run: str


class Docker(_Section):
    image: str
    credential_id: str | None = None
    env_var: dict[str, str] = {}
    command: str | DockerCommand


class WorkspaceMountPath(_Section):
    mount_path: str = "/workspace"


class JobSetting(_Section):
    type: Literal["custom"] = "custom"
    launch_mode: Literal["node"] = "node"
    docker: Docker
    workspace: WorkspaceMountPath = WorkspaceMountPath()


class InputCheckpoint(_Section):
    id: str
    mount_path: str


class CheckpointSection(_Section):
    input: InputCheckpoint | None = None
    output_checkpoint_dir: str | None = None


class DataSection(_Section):
    name: str
    mount_path: str
    mode: Literal["copy"] = "copy"


class Dist(_Section):
    dp_degree: int | None = None
    pp_degree: int | None = None
    mp_degree: int | None = None


class WandbPlugin(_Section):
    credential_id: str


class SlackPlugin(_Section):
    credential_id: str
    channel: str


class Plugin(_Section):
    wandb: WandbPlugin | None = None
    slack: SlackPlugin | None = None


class Restart(_Section):
    max_attempts: Annotated[int, Field(ge=1)] = 10
    on: list[Literal["preempted", "node-lost"]] = ["preempted", "node-lost"]
    backoff_seconds: Annotated[float, Field(ge=0)] = 5


class JobSpec(_Section):
    """A job file. ``data`` may be one section or a list; it is a list from here on."""

    name: str | None = None
    experiment: str | None = None
    vm: str
    num_devices: Annotated[int, Field(ge=1)]
    job_setting: JobSetting
    checkpoint: CheckpointSection = CheckpointSection()
    data: list[DataSection] = []
    dist: Dist | None = None
    plugin: Plugin = Plugin()
    env: dict[str, str] = {}
    restart: Restart = Restart()
