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

    def expect(self, files: Sequence[DataFile]) -> None:
        """These are read next, probably and together; does not wait for them."""
        ...

    def read_range(self, file: DataFile, start: int, end: int) -> bytes:
        """The bytes from ``start`` to before ``end``, both inside the file."""
        ...


class FolderSource:
    """A local folder, read where it lies.

    Args:
        root: The folder.
        original: What lies beneath it, where ``root`` is a view that may be written to.

    Raises:
        NotFoundError: there is no such folder.
        UsageError: it is not a folder.
    """

    def __init__(self, root: Path, original: Path | None = None) -> None:
        if not root.exists():
            raise NotFoundError(f"There is no folder {root}.", code="folder_not_found")
        if not root.is_dir():
            raise UsageError(f"{root} is not a folder.")
        self._root = root.absolute()
        self._original = original or self._root

    @property
    def url(self) -> str:
        return self._root.as_uri()

    @property
    def storage_options(self) -> dict[str, Any]:
        return {}

    def files(self) -> Sequence[DataFile]:
        found = [DataFile(path, size) for path, size in _walk(str(self._original), "")]
        return sorted(found, key=lambda file: file.path)

    def folder(self) -> Path:
        return self._root

    def fetch(self, file: DataFile) -> Path:
        return self._original / file.path

    def read(self, files: Sequence[DataFile]) -> list[bytes]:
        return [(self._original / file.path).read_bytes() for file in files]

    def expect(self, files: Sequence[DataFile]) -> None:
        """They are here."""

    def read_range(self, file: DataFile, start: int, end: int) -> bytes:
        return read_slices(self._original / file.path, [(start, end - start)])[0]


def read_slices(path: Path, slices: Sequence[tuple[int, int]]) -> list[bytes]:
    """Pieces of a local file, each by its offset and length."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [os.pread(file, length, offset) for offset, length in slices]
    finally:
        os.close(file)


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield f"{prefix}{entry.name}", entry.stat().st_size
