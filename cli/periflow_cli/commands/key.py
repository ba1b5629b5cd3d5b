"""`pf key create|list|delete`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

from periflow_cli.group import Group, Invocation, json_option, yes_option

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@click.group("key", cls=Group)
def group() -> None:
    """API keys: for CI and other machines. A key works in one project, with a role of its own."""


@group.command("create")
@click.argument("name")
@click.option(
    "--role",
    default="developer",
    show_default=True,
    metavar="ROLE",
    help="What it may do: guest, developer, maintainer or admin; at most what you may.",
)
@click.option(
    "--expires",
    metavar="TIME",
    default="90d",
    show_default=True,
    help="When it ends: 12h, 90d, 4w, a date (2030-01-31), or never.",
)
@json_option
@click.pass_obj
def create_key(
    invocation: Invocation, /, name: str, role: str, expires: str, as_json: bool
) -> None:
    """Make an API key for the current project. It is shown once: put it where secrets are kept.

    Machines use it by the variable PERIFLOW_API_KEY; they need no login then, and no other choice
    of a project.
    """
    from periflow_cli.moment import local_time
    from periflow_sdk.api.models import ApiKeyCreate

    output = invocation.output
    body = ApiKeyCreate(name=name, role=role, expires_at=_moment(expires))
    connection = invocation.connect()
    project = connection.project
    made = connection.client.create_key(project.id, body)
    if as_json:
        output.json(made)
    else:
        output.line(made.key)
    until = f"until {local_time(made.expires_at)}" if made.expires_at else "until it is deleted"
    output.note(f"The API key {made.name} works in {project.name} as {made.role}, {until}.")
    output.note("It is not shown again.")
    output.hint(
        f"export PERIFLOW_URL={connection.url} PERIFLOW_API_KEY=... where your machine runs pf"
    )


@group.command("list")
@json_option
@click.pass_obj
def list_keys(invocation: Invocation, /, as_json: bool) -> None:
    """List your API keys of the current project; an admin sees everybody's."""
    from periflow_cli.moment import ago, local_time

    output = invocation.output
    connection = invocation.connect()
    keys = connection.client.keys(connection.project.id)
    if as_json:
        output.json(keys)
        return
    rows = [
        (
            each.id[:8],
            each.name,
            each.role.capitalize(),
            each.created_by,
            _end(each.expires_at),
            ago(each.used_at) if each.used_at else "never",
            local_time(each.created_at),
        )
        for each in keys
    ]
    columns = ("ID", "Name", "Role", "Created by", "Expires", "Used", "Created At")
    output.table(columns, rows, spare=("Created At", "Created by"))
    output.hint("pf key delete NAME")


@group.command("delete")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@yes_option
@json_option
@click.pass_obj
def delete_keys(
    invocation: Invocation, /, names: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Delete API keys by name or id: they stop working at once."""
    output = invocation.output
    connection = invocation.connect()
    project = connection.project
    output.confirm(f"Delete {', '.join(names)} of {project.name}?", yes=yes)
    for each in names:
        if not each.strip("./"):
            raise click.UsageError(f"{each!r} is no name of a key.")
        connection.client.delete_key(project.id, each)
        if not as_json:
            output.line(f"Deleted the API key {each}.")
    if as_json:
        output.json([{"name": each} for each in names])
    output.hint("pf key list")


def _moment(text: str) -> datetime | None:
    """When a key ends; None for never."""
    if text.lower() == "never":
        return None
    if match := re.fullmatch(r"(\d{1,5})([hdw])", text.lower()):
        return datetime.now(UTC) + timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise click.UsageError(
            f"{text!r} is no time: give 12h, 90d, 4w, a date (2030-01-31), or never."
        ) from None


def _end(moment: datetime | None) -> str:
    from periflow_cli.moment import local_time

    if moment is None:
        return "never"
    return local_time(moment) if moment > datetime.now(UTC) else f"{local_time(moment)} (over)"
