"""`pf help` and `pf version`."""

from __future__ import annotations

import click

from periflow_cli import __version__
from periflow_cli.group import Command, Invocation, json_option


def version_line() -> str:
    """The line of `pf --version`."""
    return f"pf {__version__}"


@click.command("version", cls=Command)
@json_option
@click.pass_obj
def show_version(invocation: Invocation, /, as_json: bool) -> None:
    """Show the version."""
    if as_json:
        invocation.output.json({"version": __version__})
    else:
        click.echo(version_line())


@click.command("help", cls=Command)
@click.argument("words", nargs=-1, metavar="[COMMAND... | exit-codes]")
@click.pass_context
def show_help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Help on a command, or the table of exit codes."""
    if words == ("exit-codes",):
        from periflow_cli.errors import EXIT_CODES

        for code, meaning in EXIT_CODES:
            click.echo(f"{code:>3}  {meaning}")
        return
    assert ctx.parent is not None
    here = click.Context(ctx.parent.command, info_name="pf")
    for word in words:
        group = here.command
        command = group.get_command(here, word) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(f"No command `{here.command_path} {word}`. See `pf --help`.")
        here = click.Context(command, parent=here, info_name=word)
    click.echo(here.get_help())
