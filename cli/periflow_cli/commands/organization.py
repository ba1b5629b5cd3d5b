"""`pf org create|list|switch|current|leave|delete`, and the group that the others join."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.commands import invitation, membership
from periflow_cli.commands.usage import show_usage
from periflow_cli.group import Group, Invocation, deletion_options, json_option, yes_option

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_cli.output import Output
    from periflow_sdk.api.models import Organization


@click.group("org", cls=Group)
def group() -> None:
    """Organizations: the groups that people and projects belong to."""


@group.command("create")
@click.argument("name")
@json_option
@click.pass_obj
def create_organization(invocation: Invocation, /, name: str, as_json: bool) -> None:
    """Create an organization and work in it."""
    from periflow_cli.profile import Place

    output = invocation.output
    connection = invocation.connect()
    organization = connection.client.create_organization(name)
    connection.profile.choose(connection.key, Place(organization.id, organization.name), None)
    if as_json:
        output.json(organization)
    else:
        output.line(f"Created organization {organization.name}; it is the current one.")
    _say_if_unusable(output, organization)
    usable = organization.status == "active"
    output.hint("pf project create NAME" if usable else "pf org list shows when it is Active")


@group.command("list")
@json_option
@click.pass_obj
def list_organizations(invocation: Invocation, /, as_json: bool) -> None:
    """List your organizations; `*` marks the current one.

    A Staged organization waits for the approval of an administrator; an Active one can be used.
    """
    output = invocation.output
    connection = invocation.connect()
    organizations = connection.client.organizations()
    if as_json:
        output.json(organizations)
        return
    current = connection.profile.place("organization", connection.key)
    rows = [
        (
            "*" if current and current.id == each.id else "",
            each.name,
            each.id,
            each.status.capitalize(),
            each.role.capitalize(),
        )
        for each in organizations
    ]
    output.table(("", "Name", "ID", "Status", "Role"), rows, spare=("ID",))
    output.hint("pf org switch NAME" if organizations else "pf org create NAME")


@group.command("switch")
@click.argument("name")
@json_option
@click.pass_obj
def switch_organization(invocation: Invocation, /, name: str, as_json: bool) -> None:
    """Work in another organization (by name or id). Its project is to be chosen anew."""
    from periflow_cli.profile import Place

    output = invocation.output
    connection = invocation.connect()
    chosen = _find(connection, name)
    before = connection.profile.place("organization", connection.key)
    if before is None or before.id != chosen.id:
        connection.profile.choose(connection.key, Place(chosen.id, chosen.name), None)
    if as_json:
        output.json(chosen)
    else:
        output.line(f"Working in organization {chosen.name}.")
    _say_if_unusable(output, chosen)
    output.hint("pf project list, then pf project switch NAME")


@group.command("current")
@json_option
@click.pass_obj
def current_organization(invocation: Invocation, /, as_json: bool) -> None:
    """Show the organization you work in."""
    output = invocation.output
    place = invocation.connect().organization
    if as_json:
        output.json({"id": place.id, "name": place.name})
    else:
        output.line(place.name)


for command in (*invitation.COMMANDS, *membership.COMMANDS):
    group.add_command(command)


@group.command("leave")
@click.argument("name", required=False)
@yes_option
@json_option
@click.pass_obj
def leave_organization(
    invocation: Invocation, /, name: str | None, yes: bool, as_json: bool
) -> None:
    """Leave an organization: the current one, or NAME."""
    output = invocation.output
    connection = invocation.connect()
    organization = _find(connection, name or connection.organization.id)
    output.confirm(f"Leave organization {organization.name} and all its projects?", yes=yes)
    connection.client.leave_organization(organization.id)
    _forget(connection, organization)
    if as_json:
        output.json(organization)
    else:
        output.line(f"Left organization {organization.name}.")
    output.hint("pf org list")


@group.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@deletion_options
@json_option
@click.pass_obj
def delete_organizations(
    invocation: Invocation, /, names: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Delete organizations with all their projects. Only an owner can."""
    output = invocation.output
    connection = invocation.connect()
    organizations = [_find(connection, name) for name in names]
    all_of_it = "with all its projects, jobs, datasets and checkpoints"
    lines = [f"{each.name}: {all_of_it}" for each in organizations]
    question = f"Delete {', '.join(each.name for each in organizations)}?"
    is_wanted = output.confirm_deletion(lines, question, yes=yes, dry_run=dry_run, as_json=as_json)
    for each in organizations if is_wanted else ():
        connection.client.delete_organization(each.id)
        _forget(connection, each)
        if not as_json:
            output.line(f"Deleted organization {each.name}.")
    if as_json:
        output.json(organizations)
    output.hint_deletion("org", names, dry_run=dry_run)


group.add_command(show_usage)


def _find(connection: Connection, name: str) -> Organization:
    """The organization of a name or id, else the error with the nearest names."""
    from periflow_cli.names import unknown

    organizations = connection.client.organizations()
    chosen = next((each for each in organizations if name in (each.name, each.id)), None)
    if chosen is None:
        raise unknown("organization", name, (each.name for each in organizations), "pf org list")
    return chosen


def _forget(connection: Connection, organization: Organization) -> None:
    """Work nowhere, if this was the current one."""
    current = connection.profile.place("organization", connection.key)
    if current is not None and current.id == organization.id:
        connection.profile.choose(connection.key, None, None)


def _say_if_unusable(output: Output, organization: Organization) -> None:
    if organization.status == "staged":
        output.note("It is Staged: an administrator has to approve it before it can be used.")
    elif organization.status == "refused":
        why = f": {organization.refusal}" if organization.refusal else "."
        output.note(f"It was refused by an administrator{why}")
