"""`pf org create|list|switch|current`."""

from __future__ import annotations

import click

from periflow_cli.group import Group, Invocation, json_option


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
    if organization.status == "staged":
        output.note("It is staged: an administrator has to approve it before it can be used.")
    output.hint("pf project create NAME")


@group.command("list")
@json_option
@click.pass_obj
def list_organizations(invocation: Invocation, /, as_json: bool) -> None:
    """List your organizations; `*` marks the current one."""
    output = invocation.output
    connection = invocation.connect()
    organizations = connection.client.organizations()
    if as_json:
        output.json(organizations)
        return
    current = connection.profile.place("organization", connection.key)
    rows = [
        ("*" if current and current.id == each.id else "", each.name, each.id, each.status)
        for each in organizations
    ]
    output.table(("", "Name", "ID", "Status"), rows)


@group.command("switch")
@click.argument("name")
@json_option
@click.pass_obj
def switch_organization(invocation: Invocation, /, name: str, as_json: bool) -> None:
    """Work in another organization (by name or id). Its project is to be chosen anew."""
    from periflow_cli.names import unknown
    from periflow_cli.profile import Place

    output = invocation.output
    connection = invocation.connect()
    organizations = connection.client.organizations()
    chosen = next((each for each in organizations if name in (each.name, each.id)), None)
    if chosen is None:
        raise unknown("organization", name, (each.name for each in organizations), "pf org list")
    before = connection.profile.place("organization", connection.key)
    if before is None or before.id != chosen.id:
        connection.profile.choose(connection.key, Place(chosen.id, chosen.name), None)
    if as_json:
        output.json(chosen)
    else:
        output.line(f"Working in organization {chosen.name}.")
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
