"""A dataset as a training script reads it, wherever its bytes lie."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from periflow_sdk.data.source import DataFile, FolderSource, Source
from periflow_sdk.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Dataset:
    """Files that do not change while they are read; `pf.dataset(name)` opens one.

    Every method may be called from threads, from the ranks of a node and from forked workers:
    what several ask for at once is fetched once.

    Args:
        name: What it is called.
        source: Where its bytes come from.
        version: Of a managed dataset, from 1; None of a folder.
    """

    def __init__(self, name: str, source: Source, version: int | None = None) -> None:
        self.name = name
        self.version = version
        self._source = source

    @classmethod
    def from_folder(cls, folder: Path | str, name: str | None = None) -> Dataset:
        """A local folder as a dataset; nothing is copied.

        Raises:
            NotFoundError: there is no such folder.
        """
        root = Path(folder)
        return cls(name or root.absolute().name, FolderSource(root))

    def __repr__(self) -> str:
        version = f", version={self.version}" if self.version is not None else ""
        return f"Dataset({self.name!r}{version})"

    @property
    def path(self) -> Path:
        """The folder that holds all of it, on this machine's disk; fetched on first use.

        Others read the same folder: write elsewhere.
        """
        return self._source.folder()

    @cached_property
    def files(self) -> Sequence[DataFile]:
        """Every file, sorted by path; listed on first use."""
        return self._source.files()

    def open(self, path: str, mode: str = "rb", **options: Any) -> IO[Any]:
        """Open a file for reading, which is fetched whole.

        Args:
            path: As in ``files``.
            mode: ``"rb"`` or ``"r"``.
            options: Those of the built-in ``open`` (``encoding``, ``newline``, ...).

        Raises:
            NotFoundError: the dataset has no such file.
            UsageError: the mode would write.
        """
        if mode not in ("r", "rt", "rb"):
            raise UsageError(f"A dataset is read only: mode {mode!r} is not.")
        return self.fetch(path).open(mode, **options)

    def fetch(self, path: str) -> Path:
        """One file on this machine's disk; fetched on first use.

        Args:
            path: As in ``files``.

        Raises:
            NotFoundError: the dataset has no such file.
        """
        return self._source.fetch(self._file(path))

    def read(self, paths: Sequence[str]) -> list[bytes]:
        """The whole content of many files, with many requests under way at once.

        Args:
            paths: As in ``files``.

        Returns:
            The content of each, in the order asked for.

        Raises:
            NotFoundError: the dataset lacks one of them.
        """
        return self._source.read([self._file(path) for path in paths])

    def expect(self, paths: Sequence[str]) -> None:
        """Say what is probably read next, by one `read` of the same paths; does not wait for it.

        ``periflow_sdk.data.stream`` does this by itself. Where it is not read after all, nothing
        is lost but the requests.

        Args:
            paths: As in ``files``.

        Raises:
            NotFoundError: the dataset lacks one of them.
        """
        self._source.expect([self._file(path) for path in paths])

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes of a file from ``start`` to before ``end``; fewer at its end.

        Raises:
            NotFoundError: the dataset has no such file.
        """
        file = self._file(path)
        start, end = max(0, start), min(end, file.size)
        return self._source.read_range(file, start, end) if start < end else b""

    @property
    def url(self) -> str:
        """The address under which pandas, pyarrow and datasets find it; see storage_options."""
        return self._source.url

    @property
    def storage_options(self) -> dict[str, Any]:
        """What goes with ``url`` (``storage_options=`` of pandas and datasets)."""
        return self._source.storage_options

    @property
    def fs(self) -> AbstractFileSystem:
        """The fsspec file system that ``url`` belongs to."""
        import fsspec

        return fsspec.core.url_to_fs(self.url, **self.storage_options)[0]

    @cached_property
    def _by_path(self) -> dict[str, DataFile]:
        return {file.path: file for file in self.files}

    def _file(self, path: str) -> DataFile:
        found = self._by_path.get(path)
        if found is None:
            raise NotFoundError(
                f"The dataset {self.name} has no file {path!r}.",
                code="file_not_found",
                hint="Paths are relative, as in dataset.files.",
                data={"path": path},
            )
        return found
