"""Credentials: what other services know our users by. Values go to the server and never come back.

A ``Secret`` shows itself as stars in texts and logs, and goes over the wire as it is.
"""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from periflow_sdk.api.jobfile import CredentialPurpose
from periflow_sdk.api.models.wire import Body, Name, Wire

CredentialType = Literal["docker", "s3", "azure-blob", "gcs", "wandb", "slack"]
CredentialScope = Literal["project", "organization"]

_revealed = PlainSerializer(lambda value: value.get_secret_value(), return_type=str)


def _printable(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("has a space or a character that no such value has")
    return value


def _base64(value: SecretStr) -> SecretStr:
    try:
        b64decode(value.get_secret_value(), validate=True)
    except ValueError:
        raise ValueError("is not a key as Azure prints it, in base64") from None
    return value


Revealed = Annotated[SecretStr, _revealed]
"""A secret in an answer."""
Secret = Annotated[SecretStr, Field(min_length=1, max_length=4096), _revealed]
SecretWord = Annotated[Secret, AfterValidator(_printable)]
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=256)]
_Host = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z0-9.-]{1,253}(:\d+)?$")]


class _CredentialBody(Body):
    model_config = ConfigDict(hide_input_in_errors=True)


class DockerCredentialCreate(_CredentialBody):
    """An account of a registry; its password goes to no other one."""

    type: Literal["docker"] = "docker"
    name: Name
    username: _Text
    password: Secret
    registry: _Host = "docker.io"


class S3CredentialCreate(_CredentialBody):
    type: Literal["s3"] = "s3"
    name: Name
    aws_access_key_id: SecretWord
    aws_secret_access_key: SecretWord
    aws_default_region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{2,32}$")]


class AzureBlobCredentialCreate(_CredentialBody):
    type: Literal["azure-blob"] = "azure-blob"
    name: Name
    storage_account_name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{3,24}$")]
    storage_account_key: Annotated[Secret, AfterValidator(_base64)]


class GcsCredentialCreate(_CredentialBody):
    """``service_account_key`` is the text of a service account's key file."""

    type: Literal["gcs"] = "gcs"
    name: Name
    service_account_key: Annotated[SecretStr, Field(min_length=2, max_length=32768), _revealed]

    @field_validator("service_account_key")
    @classmethod
    def _is_key_file(cls, value: SecretStr) -> SecretStr:
        document = service_account(value.get_secret_value())
        wanted = ("client_email", "private_key", "project_id")
        if document.get("type") != "service_account" or not all(
            isinstance(document.get(name), str) and document[name] for name in wanted
        ):
            raise ValueError("is not the JSON key file of a service account")
        return value


class WandbCredentialCreate(_CredentialBody):
    type: Literal["wandb"] = "wandb"
    name: Name
    api_key: SecretWord


class SlackCredentialCreate(_CredentialBody):
    """The token of a bot, or an incoming webhook of one channel."""

    type: Literal["slack"] = "slack"
    name: Name
    token: SecretWord | None = None
    webhook_url: SecretWord | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> SlackCredentialCreate:
        if (self.token is None) == (self.webhook_url is None):
            raise ValueError("a slack credential has either a token or a webhook_url")
        return self


AnyCredentialCreate = (
    DockerCredentialCreate
    | S3CredentialCreate
    | AzureBlobCredentialCreate
    | GcsCredentialCreate
    | WandbCredentialCreate
    | SlackCredentialCreate
)
CREDENTIAL_BODIES: dict[CredentialType, type[AnyCredentialCreate]] = {
    "docker": DockerCredentialCreate,
    "s3": S3CredentialCreate,
    "azure-blob": AzureBlobCredentialCreate,
    "gcs": GcsCredentialCreate,
    "wandb": WandbCredentialCreate,
    "slack": SlackCredentialCreate,
}
CredentialCreate = Annotated[AnyCredentialCreate, Field(discriminator="type")]


class CredentialUpdate(_CredentialBody):
    """A new name, new values of some fields, or both."""

    name: Name | None = None
    values: Annotated[
        dict[str, Annotated[SecretStr, Field(max_length=32768), _revealed]], Field(max_length=8)
    ] = {}


class CredentialUse(Wire):
    """What relies on a credential: a job that has not ended, a dataset, or a notification.

    ``project`` and ``name`` are empty where the caller may not know them.
    """

    kind: Literal["job", "dataset", "notification"]
    name: str
    project: str


class Credential(Wire):
    """A credential without what is secret in it. ``used_by`` is there where one is asked for.

    ``details`` are its fields, the secret ones as stars. ``verified_at`` is when the service
    last took it.
    """

    id: str
    name: str
    type: CredentialType
    scope: CredentialScope
    details: dict[str, str]
    created_by: str
    created_at: datetime
    updated_at: datetime
    verified_at: datetime | None = None
    last_used_at: datetime | None = None
    used_by: list[CredentialUse] = []


class NamedCredential(Wire):
    """A credential that a job's file names, and for what: ``docker``, ``wandb`` or ``slack``."""

    use: CredentialPurpose
    id: str
    name: str


class JobCredential(NamedCredential):
    """What the agent of a job gets for it; ``url`` is where the control plane finds the service."""

    url: str | None = None
    values: dict[str, Revealed]


class JobCredentials(Wire):
    credentials: list[JobCredential] = []


def service_account(text: str) -> dict[str, Any]:
    """The fields of a service account's key file; none if it is not JSON."""
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
