"""Rich renderables of results, in the looks of the original client."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from periflow_cli.section import Fields, Files
from periflow_cli.terminal import one_line, printable

if TYPE_CHECKING:
    from rich.console import OverflowMethod, RenderableType

    from periflow_cli.section import Section

PANEL_WIDTH = 66
_NEVER_FOLDED = 24
_FOLDED = 30
"""What a column of sentences needs to be read."""
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_STATUS_STYLES = {
    "running": "green",
    "success": "green",
    "ready": "green",
    "failed": "red",
    "stopped": "yellow",
    "stopping": "yellow",
    "preempted": "yellow",
    "node-lost": "red",
    "warning": "yellow",
}


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    title: str = "",
    spare: Sequence[str] = (),
) -> Table:
    """A table without verticals that fits the terminal.

    Where it is too wide, ids are cut to a start that still names one row, then the ``spare``
    columns go, in their order; only then do cells fold.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    width = shutil.get_terminal_size().columns
    names = list(columns)
    if _width(names, cells) > width:
        cells = _with_short_ids(cells)
    for name in spare:
        if _width(names, cells) > width:
            at = names.index(name)
            names.pop(at)
            cells = [row[:at] + row[at + 1 :] for row in cells]
    grid = Table(box=box.SIMPLE, title=title or None, title_justify="left", title_style="bold")
    for number, name in enumerate(names):
        longest = max((cell_len(row[number]) for row in cells), default=0)
        is_whole = longest <= _NEVER_FOLDED
        # What does not fit even so is seen to be cut.
        overflow: OverflowMethod = "ellipsis" if is_whole else "fold"
        grid.add_column(name, overflow=overflow, no_wrap=is_whole)
    for row in cells:
        grid.add_row(*(Text(cell, style=_STATUS_STYLES.get(cell, "")) for cell in row))
    return grid


def _width(names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """What the table needs: its cells, three between columns, a margin of two on each side."""
    longest = [max(map(_needed, column)) for column in zip(names, *rows, strict=True)]
    return sum(longest) + 3 * (len(longest) - 1) + 4


def _needed(cell: str) -> int:
    length = cell_len(cell)
    return min(length, _FOLDED) if " " in cell else length


def _with_short_ids(rows: list[list[str]]) -> list[list[str]]:
    ids = {cell for row in rows for cell in row if _ID.fullmatch(cell)}
    length = 8
    while len({each[:length] for each in ids}) < len(ids):
        length += 1
    return [[cell[:length] if cell in ids else cell for cell in row] for row in rows]


def panels(sections: Sequence[Section]) -> list[Panel]:
    """A titled box a section, all of one width.

    As wide as the tutorial's, wider for wide content, never beyond the terminal.
    """
    drawn = [(section.title, *_body(section)) for section in sections]
    terminal = shutil.get_terminal_size().columns
    width = min(max(PANEL_WIDTH, *(cells + 4 for _, _, cells in drawn)), terminal)
    return [Panel(body, title=title, width=width) for title, body, _ in drawn]


def _body(section: Section) -> tuple[RenderableType, int]:
    """What stands in the box, and how many cells it would like."""
    if isinstance(section, Fields):
        return _grid(section.pairs)
    if isinstance(section, Files):
        return _tree(section.entries, section.root)
    lines = [printable(line) for line in section.text]
    return Text("\n".join(lines)), max(map(cell_len, lines), default=0)


def _grid(pairs: Sequence[tuple[str, str]]) -> tuple[Table, int]:
    grid = Table(box=None, show_header=False)
    grid.add_column("name", style="dim bold", no_wrap=True)
    grid.add_column("value", overflow="fold")
    pairs = [(name, printable(value)) for name, value in pairs]
    for name, value in pairs:
        grid.add_row(name, Text(value, style=_STATUS_STYLES.get(value, "")))
    names = max((cell_len(name) for name, _ in pairs), default=0)
    return grid, names + max((cell_len(value) for _, value in pairs), default=0) + 4


def _tree(entries: Iterable[tuple[str, str | None]], root: str) -> tuple[Tree, int]:
    tree = Tree(Text(one_line(root)))
    folders: dict[str, Tree] = {"": tree}
    widths = [cell_len(root)]

    def folder(path: str) -> Tree:
        if path not in folders:
            parent, _, name = path.rpartition("/")
            folders[path] = leaf(parent, path, f"📂 {name}")
        return folders[path]

    def leaf(parent: str, path: str, label: str) -> Tree:
        widths.append(4 * (path.count("/") + 1) + cell_len(label))
        return folder(parent).add(Text(label))

    for full, note in entries:
        path = one_line(full)
        parent, _, name = path.rpartition("/")
        if note is None:
            folder(path)
        elif not name:
            parent, _, name = parent.rpartition("/")
            leaf(parent, path, f"📂 {name} ({note})")
        else:
            leaf(parent, path, f"{name} ({note})" if note else name)
    return tree, max(widths)
