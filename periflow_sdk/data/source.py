"""Where the bytes of a dataset come from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from periflow_sdk.errors import NotFoundError, UsageError


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a dataset: its relative POSIX path, its bytes, and what changes with its content.

    ``etag`` is the hash of a managed file, the store's ETag of a linked one, None of a local one.
    """

    path: str
    size: int
    etag: str | None = None


class Source(Protocol):
    """What a `Dataset` needs to know and do; safe from threads, ranks and forked workers."""

    @property
    def url(self) -> str:
        """The dataset's address for fsspec."""
        ...

    @property
    def storage_options(self) -> dict[str, Any]:
        """What fsspec needs besides the address."""
        ...

    def files(self) -> Sequence[DataFile]:
        """Every file, sorted by path."""
        ...

    def folder(self) -> Path:
        """The folder that has all of them; fetched if need be."""
        ...

    def fetch(self, file: DataFile) -> Path:
        """One file on the local disk; fetched if need be."""
        ...

    def read(self, files: Sequence[DataFile]) -> list[bytes]:
        """The whole content of each."""
        ...

    def read_range(self, file: DataFile, start: int, end: int) -> bytes:
        """The bytes from ``start`` to before ``end``, both inside the file."""
        ...


class FolderSource:
    """A local folder, read where it lies.

    Raises:
        NotFoundError: there is no such folder.
        UsageError: it is not a folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.exists():
            raise NotFoundError(f"There is no folder {root}.", code="folder_not_found")
        if not root.is_dir():
            raise UsageError(f"{root} is not a folder.")
        self._root = root.absolute()

    @property
    def url(self) -> str:
        return self._root.as_uri()

    @property
    def storage_options(self) -> dict[str, Any]:
        return {}

    def files(self) -> Sequence[DataFile]:
        found = [DataFile(path, size) for path, size in _walk(str(self._root), "")]
        return sorted(found, key=lambda file: file.path)

    def folder(self) -> Path:
        return self._root

    def fetch(self, file: DataFile) -> Path:
        return self._root / file.path

    def read(self, files: Sequence[DataFile]) -> list[bytes]:
        return [(self._root / file.path).read_bytes() for file in files]

    def read_range(self, file: DataFile, start: int, end: int) -> bytes:
        descriptor = os.open(self._root / file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, end - start, start)
        finally:
            os.close(descriptor)


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield f"{prefix}{entry.name}", entry.stat().st_size
