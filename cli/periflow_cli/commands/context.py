"""`pf context list|use|show`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from periflow_cli.group import Group, Invocation, json_option

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_cli.profile import Profile, Settings
    from periflow_sdk.api.models import Organization, Project


@click.group("context", cls=Group)
def group() -> None:
    """Where you work: the server, the organization and the project."""


@dataclass(frozen=True)
class Setting:
    """One line of `pf context show`."""

    name: str
    value: str | None
    origin: str | None


@group.command("show")
@json_option
@click.pass_obj
def show_context(invocation: Invocation, /, as_json: bool) -> None:
    """Show where you work, and where each value comes from.

    A flag comes before the environment, that before the file .periflow.toml of this folder, and
    that before what was chosen with `pf context use`, `pf org switch` or `pf project switch`.
    """
    from periflow_cli.profile import Profile, settings

    output = invocation.output
    profile = Profile()
    wanted = settings(
        url=invocation.url, organization=invocation.organization, project=invocation.project
    )
    lines = _settings(invocation, profile, wanted)
    if as_json:
        output.json({each.name: {"value": each.value, "from": each.origin} for each in lines})
        return
    rows = [(each.name.capitalize(), each.value or "-", each.origin or "-") for each in lines]
    output.table(("Setting", "Value", "From"), rows)
    output.hint("pf context list, pf context use ORGANIZATION/PROJECT")


@group.command("list")
@json_option
@click.pass_obj
def list_contexts(invocation: Invocation, /, as_json: bool) -> None:
    """List the projects of all your organizations at this server; `*` marks the current one."""
    output = invocation.output
    connection = invocation.connect()
    current = connection.profile.place("project", connection.key)
    found = _projects(connection)
    if as_json:
        output.json(
            [
                {
                    "organization": organization.name,
                    "project": project.name,
                    "role": project.role,
                    "is_current": current is not None and current.id == project.id,
                }
                for organization, project in found
            ]
        )
        return
    rows = [
        (
            "*" if current is not None and current.id == project.id else "",
            f"{organization.name}/{project.name}",
            project.role.capitalize(),
        )
        for organization, project in found
    ]
    output.table(("", "Context", "Role"), rows)
    output.hint("pf context use ORGANIZATION/PROJECT")


@group.command("use")
@click.argument("name", metavar="[ORGANIZATION/]PROJECT", required=False)
@click.option(
    "--server", metavar="URL", help="Talk to this control plane from now on; `local`: your own."
)
@json_option
@click.pass_obj
def use_context(
    invocation: Invocation, /, name: str | None, server: str | None, as_json: bool
) -> None:
    """Work in another project, of whichever organization, or at another server."""
    from periflow_cli.profile import Place, Profile, settings

    output = invocation.output
    if name is None and server is None:
        raise click.UsageError("Give [ORGANIZATION/]PROJECT, or --server URL.")
    if server is not None:
        Profile().choose_server(_address(server))
        invocation.url = None if server == "local" else server
    if name is None:
        if as_json:
            output.json({"server": server})
        else:
            output.line(f"Working at {server}.")
        output.hint("pf login, then pf context list")
        return
    connection = invocation.connect()
    organization, project = _find(connection, name)
    connection.profile.choose(
        connection.key, Place(organization.id, organization.name), Place(project.id, project.name)
    )
    if as_json:
        output.json({"organization": organization.name, "project": project.name})
    else:
        output.line(f"Working in organization {organization.name}, project {project.name}.")
    said = settings().origins
    for noun in ("organization", "project"):
        if noun in said:
            output.note(f"{said[noun]} names another {noun} or this one, and comes first.")
    output.hint("pf job list")


def _settings(invocation: Invocation, profile: Profile, wanted: Settings) -> list[Setting]:
    config, sessions = str(profile.folder / "config.json"), str(profile.folder / "session.json")
    url = (wanted.url or profile.url or "").rstrip("/") or None
    origin = wanted.origins.get("url") or (config if url else "default")
    key = url or "local"
    lines = [Setting("server", url or "the local server", origin)]
    if wanted.api_key:
        connection = invocation.connect()
        user = connection.client.me().username
        lines.append(Setting("login", f"{user} (an API key)", wanted.origins["api_key"]))
        places = {"organization": connection.organization, "project": connection.project}
        fallback = wanted.origins["api_key"] if connection.api_key else config
    else:
        login = profile.login(key)
        lines.append(Setting("login", login.username if login else None, sessions))
        found = {noun: profile.place(noun, key) for noun in ("organization", "project")}
        places = {noun: place for noun, place in found.items() if place is not None}
        fallback = config
    for noun in ("organization", "project"):
        said: str | None = getattr(wanted, noun)
        place = places.get(noun)
        value = said or (place.name if place else None)
        lines.append(
            Setting(noun, value, wanted.origins.get(noun) or (fallback if value else None))
        )
    return lines


def _projects(connection: Connection) -> list[tuple[Organization, Project]]:
    client = connection.client
    return [
        (organization, project)
        for organization in client.organizations()
        for project in client.projects(organization.id)
    ]


def _find(connection: Connection, name: str) -> tuple[Organization, Project]:
    from periflow_cli.names import unknown
    from periflow_sdk.errors import ConflictError

    found = _projects(connection)
    names = [f"{organization.name}/{project.name}" for organization, project in found]
    fits = [
        row
        for row, full in zip(found, names, strict=True)
        if name in (full, row[1].id) or ("/" not in name and name == row[1].name)
    ]
    if not fits:
        raise unknown("project", name, names, "pf context list")
    if len(fits) > 1:
        several = ", ".join(f"{organization.name}/{project.name}" for organization, project in fits)
        raise ConflictError(
            f"Several projects are called {name}: {several}.",
            code="ambiguous",
            hint="pf context use ORGANIZATION/PROJECT",
        )
    return fits[0]


def _address(server: str) -> str | None:
    if server == "local":
        return None
    if not server.startswith(("http://", "https://")):
        raise click.UsageError(f"{server!r} is no address: give http://HOST:PORT or https://HOST.")
    return server.rstrip("/")
