"""`pf session list|end`."""

from __future__ import annotations

import click

from periflow_cli.group import Group, Invocation, json_option, yes_option


@click.group("session", cls=Group)
def group() -> None:
    """Logins: each machine has its own, and `pf login` there replaces it."""


@group.command("list")
@json_option
@click.pass_obj
def list_sessions(invocation: Invocation, /, as_json: bool) -> None:
    """List your logins; `*` marks the one you use now."""
    from periflow_cli.moment import ago, local_time

    output = invocation.output
    logins = invocation.connect().client.logins()
    if as_json:
        output.json(logins)
        return
    rows = [
        (
            "*" if each.is_current else "",
            each.id[:8],
            each.client or "-",
            each.address or "-",
            local_time(each.created_at),
            ago(each.seen_at),
        )
        for each in logins
    ]
    output.table(
        ("", "ID", "Client", "Address", "Since", "Renewed"), rows, spare=("Since", "Address")
    )
    output.hint("pf session end ID, or pf logout --all")


@group.command("end")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@yes_option
@json_option
@click.pass_obj
def end_sessions(invocation: Invocation, /, ids: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """End logins by their ids (or the beginnings of them): their tokens stop working at once."""
    output = invocation.output
    connection = invocation.connect()
    output.confirm(f"End {'these logins' if len(ids) > 1 else 'this login'}?", yes=yes)
    for each in ids:
        if not each.strip("./"):
            raise click.UsageError(f"{each!r} is no id of a login.")
        connection.client.end_login(each)
        if not as_json:
            output.line(f"Ended the login {each}.")
    if as_json:
        output.json([{"id": each} for each in ids])
    output.hint("pf session list")
