"""Command and group classes that every `pf` command is made of. Imports Click only."""

from collections.abc import Callable
from typing import Any

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_cli.output import Output

_LONGEST_SENTENCE = 300


class Invocation:
    """What the options before the command say, and the doors to everything else.

    ``output`` prints, ``connect`` reaches the control plane; both are imported when first used.
    """

    def __init__(self) -> None:
        self.url: str | None = None
        self.organization: str | None = None
        self.project: str | None = None
        self.quiet = False
        self.debug = False

    @property
    def output(self) -> "Output":
        from periflow_cli.output import Output

        return Output(quiet=self.quiet)

    def connect(self, *, login: bool = True) -> "Connection":
        """Reach the control plane, starting the local server if none is configured.

        Args:
            login: Refuse at once when there is no login.

        Raises:
            LoginRequiredError: not logged in.
            ServerUnreachableError: no answer.
        """
        from periflow_cli.connection import connect

        return connect(self, login=login)


def _switch(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def set_it(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        invocation = ctx.find_object(Invocation)
        if value and invocation is not None:
            setattr(invocation, name, True)

    return set_it


class Command(click.Command):
    """A command that also takes -q and --debug after its name, and -h for help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **kwargs)
        self.params.extend(switches())


def switches() -> list[click.Option]:
    """-q and --debug, for whatever is run by its own name."""
    return [
        click.Option(
            flags,
            is_flag=True,
            hidden=True,
            expose_value=False,
            callback=_switch(flags[-1].removeprefix("--")),
        )
        for flags in (("-q", "--quiet"), ("--debug",))
    ]


class Group(click.Group):
    """A group whose unknown commands are answered with the nearest names."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        kwargs.setdefault("no_args_is_help", True)
        super().__init__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with its whole first sentence; Click cuts what is longer than a line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(_LONGEST_SENTENCE))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            from difflib import get_close_matches

            path = ctx.command_path
            near = get_close_matches(args[0], names, n=1)
            advice = f"Did you mean `{path} {near[0]}`?" if near else f"See `{path} --help`."
            raise click.UsageError(f"No command `{path} {args[0]}`. {advice}", ctx)
        return super().resolve_command(ctx, args)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` as the parameter ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(
        function
    )


def limit_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-l/--limit`` as the parameter ``limit``."""
    return click.option(
        "-l",
        "--limit",
        type=click.IntRange(1),
        default=20,
        show_default=True,
        help="At most so many.",
    )(function)


def yes_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-y/--yes`` (and the older ``-f/--force``) as the parameter ``yes``."""
    return click.option("-y", "--yes", "-f", "--force", "yes", is_flag=True, help="Do not ask.")(
        function
    )


def deletion_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--dry-run`` as the parameter ``dry_run``, and what yes_option() adds."""
    described = "Show what would be deleted, and delete nothing."
    return yes_option(click.option("--dry-run", is_flag=True, help=described)(function))
