"""``pf://DATASET/path``: datasets as a read-only file system of fsspec."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from periflow_sdk.data.access import open_dataset
from periflow_sdk.data.dataset import Dataset
from periflow_sdk.errors import NotFoundError

_Entry = dict[str, Any]


class DatasetFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Reads ranges and keeps the blocks of open files; reads from the disk what is there.

    A dataset stays in the version that it had when it was first named.
    """

    protocol = "pf"
    root_marker = ""
    cachable = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._trees: dict[str, _Tree] = {}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        name, inner = self._split(path)
        with _missing(path):
            found = self._tree(name).list(inner)
        entries = [{**entry, "name": f"{name}/{entry['name']}"} for entry in found]
        return entries if detail else [entry["name"] for entry in entries]

    def info(self, path: str, **_: Any) -> _Entry:
        name, inner = self._split(path)
        with _missing(path):
            entry = self._tree(name).info(inner)
        return {**entry, "name": f"{name}/{inner}".rstrip("/")}

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        name, inner = self._split(path)
        with _missing(path):
            dataset = self._tree(name).dataset
            if not start and end is None:
                return dataset.read([inner])[0]
            size = self.info(path)["size"]
            first, last, _step = slice(start, end).indices(size)
            return dataset.read_range(inner, first, last)

    def get_file(self, rpath: str, lpath: Any, callback: Any = None, **_: Any) -> None:
        if self.isdir(rpath):
            Path(lpath).mkdir(parents=True, exist_ok=True)
            return
        name, inner = self._split(rpath)
        with _missing(rpath):
            source = self._tree(name).dataset.fetch(inner)
        if hasattr(lpath, "write"):
            with source.open("rb") as file:
                shutil.copyfileobj(file, lpath)
        else:
            Path(lpath).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, lpath)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Look at datasets anew: a newer version may be there."""
        self._trees.clear()

    def _open(self, path: str, mode: str = "rb", **options: Any) -> AbstractBufferedFile:
        if mode != "rb":
            raise OSError(errno.EROFS, "A dataset is read only", path)
        options.pop("autocommit", None)
        return _RemoteFile(self, path, mode, **options)

    def _tree(self, name: str) -> _Tree:
        if name not in self._trees:
            self._trees[name] = _Tree(open_dataset(unquote(name)))
        return self._trees[name]

    def _split(self, path: str) -> tuple[str, str]:
        name, _, inner = self._strip_protocol(path).partition("/")
        return name, inner.strip("/")


class _RemoteFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is read in blocks."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = self.fs.cat_file(self.path, start, end)
        return content


class _Tree:
    """The folders that the paths of a dataset's files make."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._folders: dict[str, dict[str, _Entry]] = {"": {}}
        for file in dataset.files:
            entry = {"name": file.path, "size": file.size, "type": "file", "etag": file.etag}
            self._add(file.path, entry)

    def list(self, path: str) -> list[_Entry]:
        if path in self._folders:
            return list(self._folders[path].values())
        return [self.info(path)]

    def info(self, path: str) -> _Entry:
        if path in self._folders:
            return {"name": path, "size": 0, "type": "directory"}
        folder, _, name = path.rpartition("/")
        entry = self._folders.get(folder, {}).get(name)
        if entry is None:
            raise NotFoundError(f"The dataset {self.dataset.name} has no file {path!r}.")
        return entry

    def _add(self, path: str, entry: _Entry) -> None:
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = {}
            self._add(folder, {"name": folder, "size": 0, "type": "directory"})
        self._folders[folder][name] = entry


@contextmanager
def _missing(path: str) -> Iterator[None]:
    """What is not there is a FileNotFoundError to those who use a file system."""
    try:
        yield
    except NotFoundError as error:
        hint = f" ({error.hint})" if error.hint else ""
        said = f"{error.message.removesuffix('.')}{hint}"
        raise FileNotFoundError(errno.ENOENT, said, path) from error
