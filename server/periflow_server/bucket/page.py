"""Lists of objects as the folders and files of a dataset."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from periflow_sdk.api import models as m
from periflow_sdk.errors import InvalidRequestError, UnsafePathError
from periflow_sdk.snapshots.path import check_path

_SECONDS = 10.0
"""After so many no further request is made for a page."""


class Bucket(Protocol):
    """What a linked dataset needs of a cloud."""

    def page(
        self, folder: str, *, recursive: bool, cursor: str | None, limit: int
    ) -> m.DatasetPage:
        """What lies in a folder (\"\" for all of it), from the cursor on.

        Raises:
            PeriFlowError: see ``fault``.
        """

    def sign(self, paths: Sequence[str], expires_at: datetime) -> list[str]:
        """URLs that read these files until then; whether they exist is not asked."""


@dataclass
class Listing:
    """One answer of a service: objects as (key, bytes, etag), prefixes that end with a slash."""

    objects: list[tuple[str, int, str | None]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    following: str | None = None


class ListOnce(Protocol):
    """Asks a service once, for what starts with a prefix."""

    def __call__(
        self, prefix: str, *, delimited: bool, cursor: str | None, limit: int
    ) -> Listing: ...


def gather(
    list_once: ListOnce,
    base: str,
    folder: str,
    *,
    recursive: bool,
    cursor: str | None,
    limit: int,
) -> m.DatasetPage:
    """Ask until there are as many as wanted, or no more, or for long enough.

    A page may so have fewer items than wanted, or none, although others follow: of a bucket with
    millions of keys that are no files, or of a service that never comes to an end.

    Keys that end with a slash are how consoles show an empty folder, and are left out. So are
    keys that could be no path below a folder, as ``a//b`` or ``../b``, and they are counted.

    Args:
        base: What every key starts with, see ``Place.base``.
    """
    prefix = base + (f"{checked(folder)}/" if folder else "")
    page = m.DatasetPage()
    deadline = time.monotonic() + _SECONDS
    while True:
        listing = list_once(
            prefix, delimited=not recursive, cursor=cursor, limit=limit - len(page.items)
        )
        entries: list[m.DatasetEntry] = []
        for key in listing.folders:
            if _is_path(path := key[len(base) : -1]):
                entries.append(m.DatasetFolder(path=path))
            else:
                page.left_out += 1
        for key, size, etag in listing.objects:
            path = key[len(base) :]
            if not path or path.endswith("/"):
                continue
            if _is_path(path):
                entries.append(m.DatasetFile(path=path, size=size, etag=etag))
            else:
                page.left_out += 1
        page.items += sorted(entries, key=lambda entry: entry.path)
        cursor = page.next_cursor = listing.following
        if cursor is None or len(page.items) >= limit or time.monotonic() > deadline:
            return page


def checked(path: str) -> str:
    """A path that a caller gave, without slashes at its ends.

    Raises:
        InvalidRequestError: it is none (``invalid_path``).
    """
    stripped = path.strip("/")
    if not _is_path(stripped):
        raise InvalidRequestError(
            f"{path[:200]!r} is not a path in a dataset.",
            code="invalid_path",
            data={"field": "path"},
        )
    return stripped


def _is_path(path: str) -> bool:
    try:
        check_path(path)
    except UnsafePathError:
        return False
    return True
