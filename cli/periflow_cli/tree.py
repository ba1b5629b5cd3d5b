"""Trees of files that stay readable: folders with much in them are collapsed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from periflow_cli.moment import size_text

MOST_LINES = 60
"""A tree of more lines is collapsed."""
MOST_IN_FOLDER = 20
"""So much of a folder is shown in a tree that is collapsed."""

Entry = tuple[str, str | None]
"""See ``section.Files``."""


@dataclass
class _Folder:
    path: str
    folders: dict[str, _Folder] = field(default_factory=dict)
    files: list[tuple[str, str]] = field(default_factory=list)
    size: int = 0
    count: int = 0

    def words(self) -> str:
        return f"{self.count:,} file{'' if self.count == 1 else 's'}, {size_text(self.size)}"


@dataclass(frozen=True)
class Leaf:
    """A file: ``note`` stands behind it in brackets; None is a folder without files."""

    path: str
    size: int
    note: str | None


def collapse(leaves: Iterable[Leaf], *, most: int = MOST_LINES) -> tuple[list[Entry], bool]:
    """The lines of a tree, from the top down as many as fit.

    Returns:
        The entries, and whether something was collapsed.
    """
    leaves = list(leaves)
    root = _Folder("")
    for leaf in leaves:
        _plant(root, leaf)
    if _lines(root) <= most:
        return [(leaf.path, leaf.note) for leaf in leaves], False
    shown: list[Entry] = []
    waiting = deque([root])
    left = most
    while waiting:
        folder = waiting.popleft()
        wanted = min(len(folder.folders) + len(folder.files), MOST_IN_FOLDER + 1)
        if folder is not root and wanted > left:
            shown.append((f"{folder.path}/", folder.words()))
            continue
        left -= wanted
        if folder is not root:
            shown.append((folder.path, None))
        waiting.extend(_show(folder, shown))
    return _in_order(shown), True


def _plant(root: _Folder, leaf: Leaf) -> None:
    *parents, name = leaf.path.split("/")
    if leaf.note is None:
        parents.append(name)
    folder = root
    for parent in ["", *parents]:
        if parent:
            path = f"{folder.path}/{parent}".lstrip("/")
            folder = folder.folders.setdefault(parent, _Folder(path))
        folder.size += leaf.size
        folder.count += leaf.note is not None
    if leaf.note is not None:
        folder.files.append((leaf.path, leaf.note))


def _lines(folder: _Folder) -> int:
    below = sum(1 + _lines(each) for each in folder.folders.values())
    return below + len(folder.files)


def _show(folder: _Folder, shown: list[Entry]) -> list[_Folder]:
    """Show the first files of a folder; its first folders, which are yet to be shown."""
    folders = list(folder.folders.values())
    files = folder.files
    room = MOST_IN_FOLDER
    if len(folders) + len(files) <= room + 1:
        shown += files
        return folders
    # Both kinds are seen if there are both.
    few = max(room - len(files), room // 2)
    start = f"{folder.path}/" if folder.path else ""
    kept, hidden = folders[:few], folders[few:]
    shown += files[: room - len(kept)]
    unseen = len(files) - min(len(files), room - len(kept))
    count = unseen + sum(each.count for each in hidden)
    more = f"{len(hidden):,} more folders, " if hidden else ""
    shown.append((f"{start}… {more}{count:,} more files", ""))
    return kept


def _in_order(entries: list[Entry]) -> list[Entry]:
    """By path, with what was left out at the end of each folder."""

    def key(entry: Entry) -> list[tuple[bool, str]]:
        return [(part.startswith("… "), part) for part in entry[0].rstrip("/").split("/")]

    return sorted(entries, key=key)
