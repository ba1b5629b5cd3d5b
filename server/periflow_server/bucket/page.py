"""Lists of objects as the folders and files of a dataset."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from periflow_sdk.api import models as m
from periflow_sdk.errors import InvalidRequestError
from periflow_sdk.snapshots.path import is_safe_path

_SECONDS = 10.0
"""After so many no further request is made for a page."""


@dataclass
class Listing:
    """One answer of a service: objects as (key, bytes, etag), prefixes that end with a slash."""

    objects: list[tuple[str, int, str | None]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    following: str | None = None


class CloudBucket(Protocol):
    """What each cloud does for a bucket of its own; it knows keys."""

    def list_once(self, prefix: str, *, delimited: bool, cursor: str | None, limit: int) -> Listing:
        """Ask once for what starts with a prefix.

        Raises:
            PeriFlowError: see ``fault``.
        """

    def sign(self, keys: Sequence[str], expires_at: datetime) -> list[str]:
        """URLs that read these objects until then; whether they exist is not asked."""


class LinkedBucket:
    """What lies below a link, as paths of a dataset.

    Args:
        base: What every key starts with, see ``Place.base``.
    """

    def __init__(self, bucket: CloudBucket, base: str) -> None:
        self._bucket = bucket
        self._base = base

    def sign(self, paths: Sequence[str], expires_at: datetime) -> list[str]:
        """URLs that read these files until then; whether they exist is not asked."""
        return self._bucket.sign([self._base + path for path in paths], expires_at)

    def page(
        self, folder: str, *, recursive: bool, cursor: str | None, limit: int
    ) -> m.DatasetPage:
        """What lies in a folder (\"\" for all of it), from the cursor on.

        Asks until there are as many as wanted, or no more, or for long enough. A page may so have
        fewer items than wanted, or none, although others follow: of a bucket with millions of
        keys that are no files, or of a service that never comes to an end.

        Keys that end with a slash are how consoles show an empty folder, and are left out. So are
        keys that could be no path below a folder, as ``a//b`` or ``../b``, and they are counted.

        Raises:
            PeriFlowError: see ``fault``.
        """
        prefix = self._base + (f"{checked(folder)}/" if folder else "")
        page = m.DatasetPage()
        deadline = time.monotonic() + _SECONDS
        while True:
            listing = self._bucket.list_once(
                prefix, delimited=not recursive, cursor=cursor, limit=limit - len(page.items)
            )
            entries: list[m.DatasetEntry] = []
            for key in listing.folders:
                if is_safe_path(path := key[len(self._base) : -1]):
                    entries.append(m.DatasetFolder(path=path))
                else:
                    page.left_out += 1
            for key, size, etag in listing.objects:
                path = key[len(self._base) :]
                if not path or path.endswith("/"):
                    continue
                if is_safe_path(path):
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
    if not is_safe_path(stripped):
        raise InvalidRequestError(
            f"{path[:200]!r} is not a path in a dataset.",
            code="invalid_path",
            data={"field": "path"},
        )
    return stripped
