"""`pf`: a lazy command group (only the command that runs is imported) and the one try/except."""

import gc
import sys
from importlib import import_module

# Nothing made while importing is garbage: not looking at it saves a tenth of `pf --help`.
gc.disable()
import click  # noqa: E402

from periflow_cli.group import Group, Invocation  # noqa: E402

gc.freeze()
gc.enable()

TYPE_CHECKING = False
if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Name, module below periflow_cli.commands and its attribute, one line for `pf --help`.
COMMANDS = (
    ("signup", "account:sign_up", "Create an account and log in."),
    ("login", "account:log_in", "Log in."),
    ("logout", "account:log_out", "End the login of this machine."),
    ("passwd", "password:change_password", "Change your password, or reset a forgotten one."),
    ("whoami", "account:who_am_i", "Show who is logged in."),
    ("session", "session:group", "Logins: list and end them."),
    ("key", "key:group", "API keys for CI: create, list, delete."),
    ("context", "context:group", "Where you work: list, use, show."),
    ("org", "organization:group", "Organizations: create, switch, invite, members, usage."),
    ("project", "project:group", "Projects: create, switch, members, roles."),
    ("set-role", "project:set_role", "Give somebody a role in the current project."),
    ("credential", "credential:group", "Credentials: create, list, view, update, delete."),
    ("notify", "notification:group", "Notifications: add, list, test, delete."),
    ("dataset", "dataset:group", "Datasets: upload, link, list, view, edit, download."),
    ("cache", "cache:group", "Datasets kept on this machine: list, clear."),
    ("job", "job:group", "Jobs: run, list, view, log, stop, preempt, metrics, template."),
    ("checkpoint", "checkpoint:group", "Checkpoints: list, view, download."),
    ("vm", "vm:group", "VM types that jobs can run on."),
    ("server", "server:group", "The local server: start, stop, status, logs."),
    ("completion", "completion:print_script", "Print the completion script of a shell."),
    ("help", "guide:show_help", "Help on a command, or `pf help exit-codes`."),
    ("version", "guide:show_version", "Show the version."),
)


class LazyGroup(Group):
    """Knows its commands by ``COMMANDS`` and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, _, _ in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for name, target, _ in COMMANDS:
            if name == cmd_name:
                module, attribute = target.split(":")
                command = getattr(import_module(f"periflow_cli.commands.{module}"), attribute)
                assert isinstance(command, click.Command)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, _, text in COMMANDS])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=text)
            for name, _, text in COMMANDS
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from periflow_cli.commands.guide import version_line

        click.echo(version_line())
        ctx.exit()


@click.command(
    cls=LazyGroup, epilog="First steps: pf signup, pf org create NAME, pf project create NAME."
)
@click.option("--url", metavar="URL", help="Control plane to talk to.")
@click.option("--org", "organization", metavar="NAME", help="Organization to work in.")
@click.option("--project", metavar="NAME", help="Project to work in.")
@click.option("-q", "--quiet", is_flag=True, help="No hints.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_obj
def root(invocation: Invocation, /, **options: object) -> None:
    """PeriFlow: train, keep every checkpoint, go on after an interruption."""
    for name, value in options.items():
        setattr(invocation, name, value)


def main() -> int:
    """Run `pf` with the process's arguments; the exit code (`pf help exit-codes`)."""
    invocation = Invocation()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        result = root.main(prog_name="pf", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
    except BaseException as error:
        from periflow_cli.errors import report

        return report(error, invocation)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
