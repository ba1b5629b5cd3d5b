"""`pf project create|list|switch|current|storage|delete`, and the group that the others join."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.commands import team
from periflow_cli.commands.team import set_role
from periflow_cli.group import Group, Invocation, deletion_options, json_option

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_sdk.api.models import Project


__all__ = ["group", "set_role"]


@click.group("project", cls=Group)
def group() -> None:
    """Projects: they share jobs, datasets and checkpoints."""


@group.command("create")
@click.argument("name")
@json_option
@click.pass_obj
def create_project(invocation: Invocation, /, name: str, as_json: bool) -> None:
    """Create a project in the current organization and work in it."""
    output = invocation.output
    connection = invocation.connect()
    organization = connection.organization
    project = connection.client.create_project(organization.id, name)
    _choose(connection, project)
    if as_json:
        output.json(project)
    else:
        output.line(
            f"Created project {project.name} in {organization.name}; it is the current one."
        )
    output.hint("pf dataset upload -n NAME -p PATH, or pf job template create --script train.py")


@group.command("list")
@json_option
@click.pass_obj
def list_projects(invocation: Invocation, /, as_json: bool) -> None:
    """List the current organization's projects; `*` marks the current one."""
    output = invocation.output
    connection = invocation.connect()
    projects = connection.client.projects(connection.organization.id)
    if as_json:
        output.json(projects)
        return
    current = connection.profile.place("project", connection.key)
    rows = [
        (
            "*" if current and current.id == each.id else "",
            each.name,
            each.id,
            each.role.capitalize(),
        )
        for each in projects
    ]
    output.table(("", "Name", "ID", "Role"), rows, spare=("ID",))


@group.command("switch")
@click.argument("name")
@json_option
@click.pass_obj
def switch_project(invocation: Invocation, /, name: str, as_json: bool) -> None:
    """Work in another project of the current organization (by name or id)."""
    output = invocation.output
    connection = invocation.connect()
    chosen = _find(connection, name)
    _choose(connection, chosen)
    if as_json:
        output.json(chosen)
    else:
        output.line(f"Working in project {chosen.name}.")
    output.hint("pf job list")


@group.command("current")
@json_option
@click.pass_obj
def current_project(invocation: Invocation, /, as_json: bool) -> None:
    """Show the project you work in."""
    output = invocation.output
    place = invocation.connect().project
    if as_json:
        output.json({"id": place.id, "name": place.name})
    else:
        output.line(place.name)


@group.command("storage")
@click.option("--quota", metavar="SIZE", help="Let it store so much: 500GB, 2TB, or `none`.")
@json_option
@click.pass_obj
def show_storage(invocation: Invocation, /, quota: str | None, as_json: bool) -> None:
    """Show how much the project stores and may store, or limit that."""
    from periflow_cli.moment import size_text
    from periflow_sdk.api.size import parse_size

    output = invocation.output
    limit_bytes = None if quota in (None, "none") else parse_size(quota)
    connection = invocation.connect()
    client, project = connection.client, connection.project
    if quota is None:
        usage = client.storage_usage(project.id)
    else:
        usage = client.set_quota(project.id, limit_bytes)
    if as_json:
        output.json(usage)
        return
    limit = "" if usage.quota_bytes is None else f" of {size_text(usage.quota_bytes)}"
    output.line(f"{project.name}: {size_text(usage.used_bytes)}{limit}")
    output.note("What is deleted counts until it is removed, within about a day.")


for command in team.COMMANDS:
    group.add_command(command)


@group.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@deletion_options
@json_option
@click.pass_obj
def delete_projects(
    invocation: Invocation, /, names: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Delete projects of the current organization. Only an owner of the organization can."""
    output = invocation.output
    connection = invocation.connect()
    projects = [_find(connection, name) for name in names]
    lines = [
        f"{p.name}: with all its jobs, datasets, checkpoints and credentials" for p in projects
    ]
    question = f"Delete {', '.join(each.name for each in projects)}?"
    is_wanted = output.confirm_deletion(lines, question, yes=yes, dry_run=dry_run, as_json=as_json)
    current = connection.profile.place("project", connection.key)
    for each in projects if is_wanted else ():
        connection.client.delete_project(each.id)
        if current is not None and current.id == each.id:
            organization = connection.profile.place("organization", connection.key)
            connection.profile.choose(connection.key, organization, None)
        if not as_json:
            output.line(f"Deleted project {each.name}.")
    if as_json:
        output.json(projects)
    output.hint_deletion("project", names, dry_run=dry_run)


def _find(connection: Connection, name: str) -> Project:
    """The project of a name or id, else the error with the way there."""
    projects = connection.client.projects(connection.organization.id)
    chosen = next((each for each in projects if name in (each.name, each.id)), None)
    if chosen is None:
        raise _elsewhere(connection, name, projects)
    return chosen


def _choose(connection: Connection, project: Project) -> None:
    from periflow_cli.profile import Place

    organization = connection.organization
    connection.profile.choose(connection.key, organization, Place(project.id, project.name))


def _elsewhere(connection: Connection, name: str, projects: list[Project]) -> Exception:
    """The error for a project that the current organization does not have."""
    from periflow_cli.names import unknown
    from periflow_sdk.errors import NotFoundError

    here = connection.organization
    for organization in connection.client.organizations():
        if organization.id == here.id:
            continue
        others = connection.client.projects(organization.id)
        if any(name in (each.name, each.id) for each in others):
            return NotFoundError(
                f"Project {name} belongs to organization {organization.name}, "
                f"and you work in {here.name}.",
                code="project_not_found",
                hint=f"pf org switch {organization.name}, then pf project switch {name}",
            )
    names = (each.name for each in projects)
    return unknown("project", name, names, "pf project list", where=f"in {here.name}")
