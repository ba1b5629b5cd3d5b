"""The tree of ``pf-server admin`` commands.

A module named in ``_MODULES`` has ``add_commands(commands)``. It adds its parsers by

    parser = commands.add("approve-org", approve, help="let an organization be used")
    parser.add_argument("name")

where ``approve(options: argparse.Namespace) -> int`` does the work and gives the exit code. What is
heavy is imported inside such functions. They open the database by ``target.open_target(options)``,
print their result on stdout, and raise errors of ``periflow_sdk.errors``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_MODULES = ("organization", "backup", "key", "audit", "storage")


class Commands:
    """Adds commands that all take the options which name the server."""

    def __init__(self, subparsers: Subparsers) -> None:
        self._subparsers = subparsers
        self._shared = argparse.ArgumentParser(add_help=False)
        self._shared.add_argument(
            "--embedded", action="store_true", help="the server of this machine's user"
        )
        self._shared.add_argument("--home", type=Path, help="PERIFLOW_HOME of that server")

    def add(
        self, name: str, run: Callable[[argparse.Namespace], int], *, help: str
    ) -> argparse.ArgumentParser:
        """A parser for one command, for its own arguments.

        Args:
            run: Does the work and gives the exit code.
        """
        parser = self._subparsers.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", parents=[self._shared]
        )
        parser.set_defaults(run=run)
        return parser


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Fill the parser of ``pf-server admin``."""
    commands = Commands(parser.add_subparsers(dest="admin_command", required=True))
    for name in _MODULES:
        import_module(f"periflow_server.admin.{name}").add_commands(commands)


def confirm(question: str, *, yes: bool) -> bool:
    """Ask before something is lost; ``yes`` answers beforehand.

    Raises:
        UsageError: nobody can answer.
    """
    import sys

    from periflow_sdk.errors import UsageError

    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can answer here.", hint="Add --yes.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
