"""What a linked dataset shows of its bucket: little enough to be there at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from periflow_cli.connection import Connection
from periflow_cli.moment import size_text
from periflow_cli.tree import MOST_IN_FOLDER, MOST_LINES, Entry, Leaf, collapse
from periflow_sdk.api.models import Dataset, DatasetFile

FIRST_FILES = 1000
"""Of a bucket with no more files all is known after one request."""
_MOST_FOLDERS = 8


@dataclass
class Listing:
    """What is shown of a bucket.

    ``count`` and ``size`` are of all files if ``is_whole``, else of the first ones. ``left_out``
    counts objects whose names could be no paths.
    """

    entries: list[Entry] = field(default_factory=list)
    files: list[DatasetFile] = field(default_factory=list)
    is_whole: bool = True
    is_collapsed: bool = False
    left_out: int = 0

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def look(connection: Connection, dataset: Dataset, path: str, *, as_tree: bool) -> Listing:
    """The first files of a folder of a dataset, or a tree of what lies there.

    Args:
        path: The folder; empty for all of it.
        as_tree: Show a tree that is not complete from its top, not from its first file on.
    """
    client, project = connection.client, connection.project.id
    page = client.dataset_page(project, dataset.id, path, recursive=True, limit=FIRST_FILES)
    listing = Listing(is_whole=page.next_cursor is None, left_out=page.left_out)
    listing.files = [each for each in page.items if isinstance(each, DatasetFile)]
    start = len(path) + 1 if path else 0
    if as_tree and not listing.is_whole:
        listing.is_collapsed = True
        listing.entries = list(_top(connection, dataset, path, start))
    elif as_tree:
        leaves = [Leaf(f.path[start:], f.size, size_text(f.size)) for f in listing.files]
        listing.entries, listing.is_collapsed = collapse(leaves)
    else:
        listing.entries = [(f.path[start:], size_text(f.size)) for f in listing.files]
    return listing


def look_at_all(connection: Connection, dataset: Dataset, path: str) -> Listing:
    """Every file of a folder of a dataset."""
    files = list(connection.client.dataset_files(connection.project.id, dataset.id, path))
    start = len(path) + 1 if path else 0
    return Listing([(file.path[start:], size_text(file.size)) for file in files], files)


def _top(connection: Connection, dataset: Dataset, path: str, start: int) -> Iterator[Entry]:
    """The upper part of a tree, asked for folder by folder."""
    client, project = connection.client, connection.project.id
    waiting = deque([path])
    asked, lines = 0, 0
    ends: list[Entry] = []
    while waiting:
        folder = waiting.popleft()
        if asked >= _MOST_FOLDERS or lines >= MOST_LINES:
            yield f"{folder[start:]}/", "…"
            continue
        page = client.dataset_page(project, dataset.id, folder, limit=MOST_IN_FOLDER)
        asked, lines = asked + 1, lines + len(page.items)
        if folder != path:
            yield folder[start:], None
        for entry in page.items:
            if isinstance(entry, DatasetFile):
                yield entry.path[start:], size_text(entry.size)
            else:
                waiting.append(entry.path)
        if page.next_cursor is not None:
            name = f"{folder}/… and more" if folder else "… and more"
            ends.append((name[start:], ""))
    yield from ends  # behind the folders, which are shown after the files beside them
