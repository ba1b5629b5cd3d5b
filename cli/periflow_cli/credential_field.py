"""The fields of each type of credential, and where a value comes from. Imports Click only.

A value is taken from its option, from standard input, from the environment, or from a prompt, in
this order. Values in a command line are seen by everybody on the machine and kept in histories.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from periflow_cli.output import Output


@dataclass(frozen=True)
class CredentialField:
    """One field: its name on the wire, its option, and the variable that may hold it.

    ``is_file``: the option names a file, whose text is the value. ``group`` is shared by fields of
    which one is enough.
    """

    name: str
    option: str
    metavar: str
    question: str
    variable: str
    is_secret: bool = False
    is_file: bool = False
    default: str | None = None
    group: str = ""

    @property
    def stdin_option(self) -> str:
        return f"{self.option.removesuffix('-file')}-stdin"


FIELDS: Mapping[str, tuple[CredentialField, ...]] = {
    "docker": (
        CredentialField("username", "--username", "NAME", "Username", "DOCKER_USERNAME"),
        CredentialField(
            "password", "--password", "TEXT", "Password", "DOCKER_PASSWORD", is_secret=True
        ),
        CredentialField(
            "registry", "--registry", "HOST", "Registry", "DOCKER_REGISTRY", default="docker.io"
        ),
    ),
    "s3": (
        CredentialField(
            "aws_access_key_id", "--aws-access-key-id", "ID", "Access key ID", "AWS_ACCESS_KEY_ID"
        ),
        CredentialField(
            "aws_secret_access_key",
            "--aws-secret-access-key",
            "TEXT",
            "Secret access key",
            "AWS_SECRET_ACCESS_KEY",
            is_secret=True,
        ),
        CredentialField(
            "aws_default_region",
            "--aws-default-region",
            "REGION",
            "Default region",
            "AWS_DEFAULT_REGION",
        ),
    ),
    "azure-blob": (
        CredentialField(
            "storage_account_name",
            "--storage-account-name",
            "NAME",
            "Storage account name",
            "AZURE_STORAGE_ACCOUNT",
        ),
        CredentialField(
            "storage_account_key",
            "--storage-account-key",
            "TEXT",
            "Storage account key",
            "AZURE_STORAGE_KEY",
            is_secret=True,
        ),
    ),
    "gcs": (
        CredentialField(
            "service_account_key",
            "--service-account-key-file",
            "FILE",
            "Service account key file",
            "GOOGLE_APPLICATION_CREDENTIALS",
            is_file=True,
        ),
    ),
    "wandb": (
        CredentialField("api_key", "--api-key", "TEXT", "API key", "WANDB_API_KEY", is_secret=True),
    ),
    "slack": (
        CredentialField(
            "token",
            "--token",
            "TEXT",
            "Token of a bot",
            "SLACK_BOT_TOKEN",
            is_secret=True,
            group="slack",
        ),
        CredentialField(
            "webhook_url",
            "--webhook-url",
            "URL",
            "Webhook URL",
            "SLACK_WEBHOOK_URL",
            is_secret=True,
            group="slack",
        ),
    ),
}


def options_of(*types: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of the fields of these types to a command."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        fields = {field.name: field for type in types for field in FIELDS[type]}
        for field in reversed(fields.values()):
            if field.is_secret or field.is_file:
                help = f"Read it from standard input, instead of {field.option}."
                function = click.option(field.stdin_option, is_flag=True, help=help)(function)
            function = click.option(field.option, metavar=field.metavar, help=f"{_help(field)}.")(
                function
            )
        return function

    return add


def _help(field: CredentialField) -> str:
    notes = [f"or {field.variable}"]
    if field.is_secret:
        notes.append("others see it in `ps`")
    if field.default:
        notes.insert(0, f"default {field.default}")
    return f"{field.question} ({', '.join(notes)})"


def given_values(type: str, options: Mapping[str, Any]) -> dict[str, str]:
    """The fields that the command line or standard input gives.

    Args:
        options: The parameters of the command.

    Raises:
        UsageError: a file cannot be read.
    """
    values = {}
    for field in FIELDS[type]:
        if options.get(_parameter(field.stdin_option)):
            values[field.name] = _piped(field)
        elif (text := options.get(_parameter(field.option))) is not None:
            values[field.name] = _read(text) if field.is_file else text
    return values


def all_values(type: str, options: Mapping[str, Any], output: "Output") -> dict[str, str]:
    """Every field of a new credential: given, of the environment, or asked for.

    Raises:
        UsageError: one is missing and nobody can answer.
    """
    values = given_values(type, options)
    if any(field.group for field in FIELDS[type]) and values:
        return values
    for field in FIELDS[type]:
        if field.name in values:
            continue
        if text := os.environ.get(field.variable):
            output.note(f"Took {field.variable} from the environment.")
            values[field.name] = _read(text) if field.is_file else text
        elif field.default is None and not (field.group and values):
            values[field.name] = _ask(field, output)
        if field.group and values:
            return values
    return values


def asked_values(type: str, output: "Output") -> dict[str, str]:
    """New values of some fields, from prompts; an empty answer keeps what there is."""
    output.note("An empty answer keeps what there is.")
    values = {}
    for field in FIELDS[type]:
        if field.is_secret:
            answer = output.ask_secret(field.question, field.option, keep=True)
        else:
            answer = str(click.prompt(field.question, "", show_default=False, err=True)).strip()
        if answer:
            values[field.name] = _read(answer) if field.is_file else answer
    return values


def exposed(type: str, options: Mapping[str, Any]) -> list[CredentialField]:
    """The secret fields whose values stood in the command line."""
    return [
        field
        for field in FIELDS[type]
        if field.is_secret and options.get(_parameter(field.option)) is not None
    ]


def _ask(field: CredentialField, output: "Output") -> str:
    if field.is_secret:
        ways = f"{field.stdin_option} (or {field.option}, or {field.variable})"
        if field.group:
            ways = "--token-stdin or --webhook-url-stdin"
        return output.ask_secret(field.question, ways)
    answer = output.ask(field.question, f"{field.option} (or {field.variable})")
    return _read(answer) if field.is_file else answer


def _piped(field: CredentialField) -> str:
    return sys.stdin.read().strip() if field.is_file else sys.stdin.readline().rstrip("\r\n")


def _read(path: str) -> str:
    from periflow_sdk.errors import UsageError

    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"The key file {path} cannot be read: {why}.") from error


def _parameter(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
