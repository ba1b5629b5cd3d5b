"""Where things are printed: results on stdout, everything else on stderr.

On a terminal results are Rich tables and panels; in a pipe they are plain lines, tab-separated,
without boxes, colour or truncation.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import RenderableType

    from periflow_cli.section import Section


class Output:
    """Prints for one run of `pf`.

    Args:
        quiet: Leave hints out.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._aside = False
        forced = os.environ.get("FORCE_COLOR", "") not in ("", "0")
        self.boxes = sys.stdout.isatty() or forced
        self.interactive = (
            sys.stdin.isatty()
            and sys.stderr.isatty()
            and os.environ.get("PERIFLOW_NO_INPUT", "") in ("", "0")
        )

    def line(self, text: str = "") -> None:
        """One line of the result."""
        click.echo(text, err=self._aside)

    def text(self, *lines: str) -> None:
        """Lines that others wrote, at once; on a terminal without what it would obey."""
        if not lines:
            return
        whole = "\n".join(lines)
        if (sys.stderr if self._aside else sys.stdout).isatty():
            from periflow_cli.terminal import harmless

            whole = harmless(whole)
        click.echo(whole, err=self._aside)

    def aside(self) -> Output:
        """The same, with the lines of results on stderr too: the real result is yet to come."""
        other = Output(quiet=self.quiet)
        other._aside = True
        return other

    def note(self, text: str) -> None:
        """One line that is not the result."""
        click.echo(text, err=True)

    def hint(self, text: str) -> None:
        """The next command."""
        if not self.quiet:
            click.echo(f"Hint: {text}", err=True)

    def json(self, value: BaseModel | Sequence[BaseModel] | dict[str, Any] | list[Any]) -> None:
        """The result as one JSON document."""
        click.echo(json.dumps(plain(value), ensure_ascii=False, indent=2))

    def json_lines(self, values: Sequence[BaseModel]) -> None:
        """Some of many results, each an object on a line of its own."""
        if values:
            click.echo("\n".join(value.model_dump_json() for value in values))

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        title: str = "",
        *,
        spare: Sequence[str] = (),
    ) -> None:
        """A table; in a pipe a header line and a line a row, separated by tabs.

        Args:
            spare: Columns that a narrow terminal can do without, the first to go first.
        """
        if self.boxes:
            from periflow_cli.render import table

            self.show(table(columns, rows, title, spare))
            return
        if title:
            self.line()
            self.line(title)
        for row in (columns, *rows):
            self.line("\t".join(_one_line(cell) for cell in row))

    def sections(self, *sections: Section) -> None:
        """Panels of one width; in a pipe a title and plain lines each, a blank line between."""
        if self.boxes:
            from periflow_cli.render import panels

            self.show(*panels(sections))
            return
        for number, section in enumerate(sections):
            if number:
                self.line()
            for line in (section.title, *section.lines()):
                self.line(line)

    def show(self, *renderables: RenderableType) -> None:
        """Rich renderables, as wide as the terminal (or COLUMNS) allows."""
        from rich.console import Console

        console = Console(highlight=False)
        for renderable in renderables:
            console.print(renderable)

    def ask(
        self,
        question: str,
        option: str,
        *,
        hidden: bool = False,
        complaint: Callable[[str], str] = lambda answer: "",
    ) -> str:
        """Prompt for a value on a terminal, until it is right.

        Args:
            option: What to type instead, for the error where nobody can answer.
            hidden: Do not echo, and ask twice.
            complaint: What is wrong with an answer; empty if nothing is.

        Raises:
            UsageError: nobody can answer.
        """
        if not self.interactive:
            raise UsageError(f"{question} is needed: give {option}.")
        while True:
            answer = str(click.prompt(question, hide_input=hidden, err=True))
            if wrong := complaint(answer):
                self.note(wrong)
            elif hidden and answer != click.prompt("Repeat it", hide_input=True, err=True):
                self.note("The two are not the same.")
            else:
                return answer

    def ask_password(self) -> str:
        """Prompt for an existing password, without echo."""
        if not self.interactive:
            raise UsageError("Password is needed: give it on stdin with --password-stdin.")
        return str(click.prompt("Password", hide_input=True, err=True))

    def ask_secret(self, question: str, option: str, *, keep: bool = False) -> str:
        """Prompt for a secret that exists elsewhere, without echo, once.

        Args:
            option: What to type instead, for the error where nobody can answer.
            keep: Take an empty answer.

        Raises:
            UsageError: nobody can answer.
        """
        if not self.interactive:
            raise UsageError(f"{question} is needed: give {option}.")
        default = "" if keep else None
        return str(
            click.prompt(question, default, hide_input=True, show_default=False, err=True)
        ).strip()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something is lost; ``yes`` answers beforehand.

        Raises:
            UsageError: nobody can answer, and --yes was not given.
            Exit: with code 1; the answer was no.
        """
        if yes:
            return
        if not self.interactive:
            raise UsageError(f"{question} Nobody can answer here: add --yes.")
        if not click.confirm(question, err=True):
            self.note("Nothing was changed.")
            raise click.exceptions.Exit(1)

    def confirm_deletion(
        self, losses: Iterable[str], question: str, *, yes: bool, dry_run: bool, as_json: bool
    ) -> bool:
        """Show what goes and ask, as confirm() does; False for a dry run, which only shows it."""
        for line in losses:
            (self.line if dry_run and not as_json else self.note)(line)
        if not dry_run:
            self.confirm(question, yes=yes)
        return not dry_run

    def hint_deletion(self, kind: str, names: Iterable[str], *, dry_run: bool) -> None:
        """After confirm_deletion(): how to do what a dry run has shown, or to see what is left."""
        self.hint(f"pf {kind} delete {shlex.join(names)}" if dry_run else f"pf {kind} list")


def plain(value: Any) -> Any:
    """Models as JSON values; anything else as it is."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _one_line(text: str) -> str:
    return text.replace("\t", " ").replace("\r", " ").replace("\n", " ")
