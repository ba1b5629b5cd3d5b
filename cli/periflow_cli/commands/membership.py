"""`pf org members|set-role|remove-user|roles`."""

from __future__ import annotations

import click

from periflow_cli.group import Command, Invocation, json_option, yes_option
from periflow_cli.people import people_argument, person_argument


@click.command("members", cls=Command)
@json_option
@click.pass_obj
def list_members(invocation: Invocation, /, as_json: bool) -> None:
    """List who is in the current organization."""
    output = invocation.output
    connection = invocation.connect()
    members = connection.client.organization_members(connection.organization.id)
    if as_json:
        output.json(members)
        return
    rows = [(each.username, each.name, each.email, each.role.capitalize()) for each in members]
    output.table(("Username", "Name", "Email", "Role"), rows)
    output.hint("pf org invite EMAIL")


@click.command("set-role", cls=Command)
@person_argument
@click.argument("role")
@json_option
@click.pass_obj
def set_role(invocation: Invocation, /, username: str, role: str, as_json: bool) -> None:
    """Make a member of the current organization an Owner or a Member. Only an owner can."""
    output = invocation.output
    connection = invocation.connect()
    organization = connection.organization
    member = connection.client.set_organization_role(organization.id, username, role)
    if as_json:
        output.json(member)
    else:
        name = member.role.capitalize()
        output.line(f"{member.username} is {_article(name)} of {organization.name} now.")
    output.hint("pf org members")


@click.command("remove-user", cls=Command)
@people_argument
@yes_option
@json_option
@click.pass_obj
def remove_members(
    invocation: Invocation, /, usernames: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Take people out of the current organization and its projects. Only an owner can."""
    output = invocation.output
    connection = invocation.connect()
    organization = connection.organization
    question = f"Remove {', '.join(usernames)} from {organization.name} and all its projects?"
    output.confirm(question, yes=yes)
    for username in usernames:
        connection.client.remove_organization_member(organization.id, username)
        if not as_json:
            output.line(f"Removed {username} from {organization.name}.")
    if as_json:
        output.json([{"username": username} for username in usernames])
    output.hint("pf org members")


@click.command("roles", cls=Command)
@json_option
@click.pass_obj
def show_roles(invocation: Invocation, /, as_json: bool) -> None:
    """Show what owners and members of an organization may do."""
    from periflow_cli.people import role_table

    output = invocation.output
    permissions = invocation.connect(login=False).client.permissions()
    if as_json:
        output.json([each for each in permissions if each.scope == "organization"])
        return
    output.table(*role_table(permissions, "organization"))
    output.hint("pf org set-role USERNAME ROLE")


def _article(role: str) -> str:
    return f"{'an' if role[0] in 'AEIOU' else 'a'} {role}"


COMMANDS = (list_members, set_role, remove_members, show_roles)
