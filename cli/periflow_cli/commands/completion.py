"""`pf completion SHELL`."""

from __future__ import annotations

import click

from periflow_cli.group import Command


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def print_script(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: eval "$(pf completion bash)" in ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    assert completion is not None
    root = ctx.find_root().command
    # `source()` of Click's bash class asks the bash on PATH for its version; this does not.
    script = completion(root, {}, "pf", "_PF_COMPLETE")
    click.echo(script.source_template % script.source_vars())
