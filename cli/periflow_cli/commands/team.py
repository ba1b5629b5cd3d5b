"""`pf project members|add-user|set-role|remove-user|roles`, and `pf set-role`."""

from __future__ import annotations

import click

from periflow_cli.group import Command, Invocation, json_option, yes_option
from periflow_cli.people import people_argument, person_argument


@click.command("members", cls=Command)
@json_option
@click.pass_obj
def list_members(invocation: Invocation, /, as_json: bool) -> None:
    """List who works in the current project. Owners of the organization are admins of it."""
    output = invocation.output
    connection = invocation.connect()
    members = connection.client.project_members(connection.project.id)
    if as_json:
        output.json(members)
        return
    rows = [
        (
            each.username,
            each.name,
            each.email,
            f"{each.role.capitalize()}{' (owner)' if each.is_owner else ''}",
        )
        for each in members
    ]
    output.table(("Username", "Name", "Email", "Role"), rows)
    output.hint("pf project add-user USERNAME ROLE")


@click.command("add-user", cls=Command)
@person_argument
@click.argument("role")
@json_option
@click.pass_obj
def add_member(invocation: Invocation, /, username: str, role: str, as_json: bool) -> None:
    """Add somebody of the organization to the current project.

    ROLE is Admin, Maintainer, Developer or Guest; `pf project roles` says what each may do.
    """
    output = invocation.output
    connection = invocation.connect()
    project = connection.project
    member = connection.client.add_project_member(project.id, username, role)
    if as_json:
        output.json(member)
    else:
        output.line(f"Added {member.username} to {project.name} as {member.role.capitalize()}.")
    output.hint("pf project members")


@click.command("set-role", cls=Command)
@person_argument
@click.argument("role")
@json_option
@click.pass_obj
def set_role(invocation: Invocation, /, username: str, role: str, as_json: bool) -> None:
    """Give somebody another role in the current project.

    ROLE is Admin, Maintainer, Developer or Guest; `pf project roles` says what each may do.
    """
    output = invocation.output
    connection = invocation.connect()
    project = connection.project
    member = connection.client.set_project_role(project.id, username, role)
    if as_json:
        output.json(member)
    else:
        output.line(f"{member.username} is {member.role.capitalize()} in {project.name} now.")
    output.hint("pf project members")


@click.command("remove-user", cls=Command)
@people_argument
@yes_option
@json_option
@click.pass_obj
def remove_members(
    invocation: Invocation, /, usernames: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Take people out of the current project."""
    output = invocation.output
    connection = invocation.connect()
    project = connection.project
    output.confirm(f"Remove {', '.join(usernames)} from project {project.name}?", yes=yes)
    for username in usernames:
        connection.client.remove_project_member(project.id, username)
        if not as_json:
            output.line(f"Removed {username} from {project.name}.")
    if as_json:
        output.json([{"username": username} for username in usernames])
    output.hint("pf project members")


@click.command("roles", cls=Command)
@json_option
@click.pass_obj
def show_roles(invocation: Invocation, /, as_json: bool) -> None:
    """Show what each role in a project may do. Owner is an owner of the organization."""
    from periflow_cli.people import role_table

    output = invocation.output
    permissions = invocation.connect(login=False).client.permissions()
    if as_json:
        output.json([each for each in permissions if each.scope == "project"])
        return
    output.table(*role_table(permissions, "project"))
    output.hint("pf project set-role USERNAME ROLE")


COMMANDS = (list_members, add_member, set_role, remove_members, show_roles)
