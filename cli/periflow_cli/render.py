"""Rich renderables of results, in the looks of the original client."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from periflow_cli.moment import size_text

if TYPE_CHECKING:
    from rich.console import RenderableType

PANEL_WIDTH = 66

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


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> Table:
    """A table without verticals."""
    grid = Table(box=box.SIMPLE, title=title or None, title_justify="left", title_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell, style=_STATUS_STYLES.get(cell, "")) for cell in row))
    return grid


def panel(title: str, body: RenderableType, content_width: int = 0) -> Panel:
    """A titled box: as wide as the tutorial's, wider for wide content, never beyond the terminal.

    Args:
        content_width: Cells the widest line of ``body`` needs.
    """
    terminal = shutil.get_terminal_size().columns
    return Panel(body, title=title, width=min(max(PANEL_WIDTH, content_width + 4), terminal))


def fields_panel(title: str, pairs: Sequence[tuple[str, str]], content_width: int = 0) -> Panel:
    """A panel of names and values."""
    grid = Table(box=None, show_header=False)
    grid.add_column("name", style="dim bold", no_wrap=True)
    grid.add_column("value", overflow="fold")
    for name, value in pairs:
        grid.add_row(name, Text(value, style=_STATUS_STYLES.get(value, "")))
    return panel(title, grid, max(content_width, fields_width(pairs)))


def fields_width(pairs: Sequence[tuple[str, str]]) -> int:
    """Cells that the rows of a fields panel need."""
    names = max((cell_len(name) for name, _ in pairs), default=0)
    return names + max((cell_len(value) for _, value in pairs), default=0) + 4


def file_tree(files: Iterable[tuple[str, int | None]]) -> tuple[Tree, int]:
    """A tree of relative POSIX paths with sizes (None: an empty folder), and its width in cells."""
    tree = Tree("/")
    folders: dict[str, Tree] = {"": tree}
    width = 1
    for path, size in files:
        parent, _, name = path.rpartition("/")
        label = f"{name} ({size_text(size)})" if size is not None else f"📂 {name}"
        node = _folder(folders, parent).add(Text(label))
        if size is None:
            folders[path] = node
        depth = path.count("/") + 1
        parts = max(4 * depth + cell_len(label), *_folder_widths(parent))
        width = max(width, parts)
    return tree, width


def _folder(folders: dict[str, Tree], path: str) -> Tree:
    if path not in folders:
        parent, _, name = path.rpartition("/")
        folders[path] = _folder(folders, parent).add(Text(f"📂 {name}"))
    return folders[path]


def _folder_widths(path: str) -> list[int]:
    parts = path.split("/") if path else []
    return [4 * (depth + 1) + cell_len(f"📂 {name}") for depth, name in enumerate(parts)] or [0]
