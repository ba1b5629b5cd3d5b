"""The job file: its fields, and reading it with line and column in every complaint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from periflow_sdk.errors import JobFileError


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character, which no program can be given")
    return text


def _variables(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        if not name or "=" in name:
            raise ValueError(f"has the variable name {name!r}, which is empty or has a '='")
        _without_nul(name)
        _without_nul(value)
    return values


AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/"), AfterValidator(_without_nul)]
NotifyOn = Literal["running", "success", "failed", "stopped", "preempted", "node-lost"]
"""What people can be told of: the changes of a job, and how attempts are lost."""
CredentialReference = Annotated[str, StringConstraints(min_length=1, max_length=64)]
"""A credential's id or name."""
HUB_PREFIX = "huggingface:"
WandbName = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$")
]
_CREDENTIAL_KEYS = AliasChoices("credential_id", "credential")
_Count = Annotated[int, Field(ge=1, lt=2**63)]
Variables = Annotated[dict[str, str], AfterValidator(_variables)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DockerCommand(_Section):
    setup: str | None = None
    run: str


class Docker(_Section):
    image: str
    credential_id: CredentialReference | None = Field(None, validation_alias=_CREDENTIAL_KEYS)
    env_var: Variables = {}
    command: str | DockerCommand

    @field_validator("command")
    @classmethod
    def _command_without_nul(cls, command: str | DockerCommand) -> str | DockerCommand:
        for text in [command] if isinstance(command, str) else [command.setup or "", command.run]:
            _without_nul(text)
        return command


class WorkspaceMountPath(_Section):
    mount_path: AbsolutePath = "/workspace"


class JobSetting(_Section):
    type: Literal["custom"] = "custom"
    launch_mode: Literal["node"] = "node"
    docker: Docker
    workspace: WorkspaceMountPath = WorkspaceMountPath()


class InputCheckpoint(_Section):
    id: str
    mount_path: AbsolutePath


class CheckpointSection(_Section):
    input: InputCheckpoint | None = None
    output_checkpoint_dir: str | None = None


class DataSection(_Section):
    """A dataset, or with ``huggingface:NAME`` one of that hub; a streamed one needs no path."""

    name: str
    mount_path: AbsolutePath | None = None
    mode: Literal["copy", "stream"] = "copy"

    @model_validator(mode="after")
    def _path_of_a_copy(self) -> DataSection:
        if self.mode == "copy" and self.mount_path is None:
            raise ValueError("needs a mount_path (or mode: stream)")
        if self.mode == "stream" and self.name.startswith(HUB_PREFIX):
            raise ValueError("a dataset of the hub is copied: leave out mode: stream")
        return self


class Dist(_Section):
    dp_degree: int | None = None
    pp_degree: int | None = None
    mp_degree: int | None = None


class WandbPlugin(_Section):
    """``project`` is "periflow" and ``name`` the job's if left out; ``entity`` the key's own."""

    credential_id: CredentialReference = Field(validation_alias=_CREDENTIAL_KEYS)
    project: WandbName | None = None
    entity: WandbName | None = None
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    mode: Literal["online", "offline"] = "online"


class SlackPlugin(_Section):
    credential_id: CredentialReference = Field(validation_alias=_CREDENTIAL_KEYS)
    channel: str
    on: Annotated[list[NotifyOn], Field(min_length=1)] = [
        "success",
        "failed",
        "stopped",
        "preempted",
        "node-lost",
    ]


CredentialPurpose = Literal["docker", "wandb", "slack"]
CredentialSection = Docker | WandbPlugin | SlackPlugin


class Plugin(_Section):
    wandb: WandbPlugin | None = None
    slack: SlackPlugin | None = None
    tensorboard: bool = False


class Restart(_Section):
    max_attempts: Annotated[int, Field(ge=1)] = 10
    on: list[Literal["preempted", "node-lost"]] = ["preempted", "node-lost"]
    backoff_seconds: Annotated[float, Field(ge=0)] = 5


class BestCheckpoints(_Section):
    """The ``count`` checkpoints at whose step the metric was lowest (or highest)."""

    metric: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    mode: Literal["min", "max"]
    count: _Count = 1


class Retention(_Section):
    """Which checkpoints stay: those that any of the rules keeps."""

    keep_last: _Count = 5
    keep_every: _Count | None = None
    keep_best: BestCheckpoints | None = None

    def __str__(self) -> str:
        rules = [f"keep_last {self.keep_last}"]
        if self.keep_every is not None:
            rules.append(f"keep_every {self.keep_every}")
        if (best := self.keep_best) is not None:
            rules.append(f"keep_best {best.count} by {best.mode} {best.metric}")
        return ", ".join(rules)


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
    env: Variables = {}
    restart: Restart = Restart()
    retention: Retention | None = None

    def credential_sections(self) -> list[tuple[CredentialPurpose, CredentialSection]]:
        """The sections that name a credential, each with the type of credential it needs."""
        docker = self.job_setting.docker
        sections: list[tuple[CredentialPurpose, CredentialSection | None]] = [
            ("docker", docker if docker.credential_id is not None else None),
            ("wandb", self.plugin.wandb),
            ("slack", self.plugin.slack),
        ]
        return [(purpose, section) for purpose, section in sections if section is not None]


def load_job_file(path: Path, *, vm: str | None = None, num_devices: int | None = None) -> JobSpec:
    """Read a job file.

    Args:
        path: The YAML file.
        vm: Takes the place of the file's ``vm``.
        num_devices: Takes the place of the file's ``num_devices``.

    Raises:
        JobFileError: it cannot be read, is not YAML, or says something wrong; with line and column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise JobFileError(
            f"There is no job file {path}.",
            code="job_file_missing",
            hint="`pf job template create --script train.py` writes one.",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise JobFileError(f"The job file {path} cannot be read: {error}.") from error
    return parse_job_text(text, str(path), vm=vm, num_devices=num_devices)


def parse_job_text(
    text: str, name: str, *, vm: str | None = None, num_devices: int | None = None
) -> JobSpec:
    """Read the text of a job file; see ``load_job_file``.

    Args:
        name: What complaints call the file.
    """
    from periflow_sdk.api.jobtext import read_spec

    overrides = {"vm": vm, "num_devices": num_devices}
    return read_spec(text, name, {key: each for key, each in overrides.items() if each is not None})
