"""What a `view` command shows: titled sections of names and values, files, or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from periflow_cli.terminal import one_line


@dataclass(frozen=True)
class Fields:
    """Names and values."""

    title: str
    pairs: Sequence[tuple[str, str]]

    def lines(self) -> list[str]:
        """Plain lines, a tab between name and value."""
        return [f"{name}\t{_one_line(value)}" for name, value in self.pairs]


@dataclass(frozen=True)
class Files:
    """Relative POSIX paths with what stands in brackets behind each.

    None stands for a folder; a path that ends with a slash is one with a note; behind an empty
    note there are no brackets. ``root`` is the folder that the paths are relative to.
    """

    title: str
    entries: Sequence[tuple[str, str | None]]
    root: str = "/"

    def lines(self) -> list[str]:
        """A line a path."""
        return [
            f"{path} ({note})" if note else path if note == "" else f"{path}/"
            for path, note in ((one_line(path), note) for path, note in self.entries)
        ]


@dataclass(frozen=True)
class Lines:
    """Text as it is."""

    title: str
    text: Sequence[str]

    def lines(self) -> list[str]:
        """The text."""
        return list(self.text)


Section = Fields | Files | Lines


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))
