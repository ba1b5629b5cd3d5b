"""How the samples of a data set lie in its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.source import DataFile
from periflow_sdk.data.streaming.order import Block
from periflow_sdk.errors import UsageError

LayoutName = Literal["auto", "files", "tar", "parquet", "mds", "litdata"]

INDEX = "index.json"


class Index(NamedTuple):
    """The content of an ``index.json``, and the folder it lies in: "" or with a slash."""

    folder: str
    content: Mapping[str, Any]


class OpenBlock(Protocol):
    """A block whose file is on the local disk."""

    def read(self, numbers: Sequence[int]) -> list[Any]:
        """Samples of the block, by their numbers in it."""
        ...


class Layout(Protocol):
    """Where samples lie, and how to read them."""

    @property
    def name(self) -> str:
        """As in ``layout=``."""
        ...

    @property
    def blocks(self) -> Sequence[Block]:
        """All of the data set; those of a file one behind the other."""
        ...

    @property
    def kept_open(self) -> int:
        """How many blocks may well be open at once."""
        ...

    def open(self, block: Block, path: Path | None) -> OpenBlock:
        """Make a block ready to be read.

        Args:
            block: One of ``blocks``.
            path: Its file on the local disk.
        """
        ...


def find_layout(dataset: Dataset, path: str, layout: LayoutName) -> Layout:
    """The layout of a data set, by its index or its files' names.

    Args:
        dataset: The data set.
        path: A folder of it, or a pattern of files; "" for all.
        layout: What it is said to be.

    Raises:
        UsageError: There is nothing to read, or not in this layout.
    """
    if layout not in get_args(LayoutName):
        raise UsageError(f"layout={layout!r}: it is one of {', '.join(get_args(LayoutName))}")
    files = _selected(dataset, path)
    index = _read_index(dataset, files)
    name = _guess(files, index) if layout == "auto" else layout
    if name == "litdata":
        from periflow_sdk.data.streaming.litdata import LitdataLayout

        return LitdataLayout(*_indexed(name, dataset, files, index))
    if name == "mds":
        from periflow_sdk.data.streaming.mds import MdsLayout

        return MdsLayout(*_indexed(name, dataset, files, index))
    if name == "tar":
        from periflow_sdk.data.streaming.tar import shard_counts, tar_layout

        counts = shard_counts(*index) if index is not None else {}
        return tar_layout(dataset, _with_ending(dataset, path, files, ".tar"), counts)
    if name == "parquet":
        from periflow_sdk.data.streaming.parquet import ParquetLayout

        return ParquetLayout(dataset, _with_ending(dataset, path, files, ".parquet"))
    from periflow_sdk.data.streaming.files import FilesLayout

    return FilesLayout(dataset, files)


def _selected(dataset: Dataset, path: str) -> list[DataFile]:
    if not path or path == ".":
        files = list(dataset.files)
    elif any(letter in path for letter in "*?["):
        files = [file for file in dataset.files if fnmatchcase(file.path, path)]
    else:
        folder = path.strip("/") + "/"
        files = [file for file in dataset.files if file.path.startswith(folder)]
        files = files or [file for file in dataset.files if file.path == path]
    if not files:
        raise UsageError(
            f"the dataset {dataset.name} has no files{f' under {path!r}' if path else ''}",
            hint='name a folder of it, or a pattern as in "train/*.tar"',
        )
    return files


def _read_index(dataset: Dataset, files: Sequence[DataFile]) -> Index | None:
    """The index nearest to the top, with the folder it describes ("" or with a slash)."""
    found = [file.path for file in files if file.path.rpartition("/")[2] == INDEX]
    if not found:
        return None
    path = min(found, key=lambda each: (each.count("/"), each))
    try:
        content = json.loads(dataset.read([path])[0])
    except ValueError:
        return None
    return Index(path.removesuffix(INDEX), content) if isinstance(content, dict) else None


def _guess(files: Sequence[DataFile], index: Index | None) -> LayoutName:
    if index is not None:
        content = index.content
        if "chunks" in content and "config" in content:
            return "litdata"
        if "shards" in content and "version" in content:
            return "mds"
    total = sum(file.size for file in files)
    kinds: tuple[tuple[str, LayoutName], ...] = ((".tar", "tar"), (".parquet", "parquet"))
    for ending, name in kinds:
        size = sum(file.size for file in files if file.path.endswith(ending))
        if size and size * 2 >= total:
            return name
    return "files"


def _indexed(
    name: str, dataset: Dataset, files: Sequence[DataFile], index: Index | None
) -> tuple[str, Mapping[str, Any], Mapping[str, int]]:
    if index is None:
        raise UsageError(f"the dataset {dataset.name} has no {INDEX} that a {name} layout needs")
    return index.folder, index.content, {file.path: file.size for file in files}


def _with_ending(
    dataset: Dataset, path: str, files: Sequence[DataFile], ending: str
) -> list[DataFile]:
    chosen = [file for file in files if file.path.endswith(ending)]
    if not chosen:
        where = f" under {path!r}" if path else ""
        raise UsageError(f"the dataset {dataset.name} has no {ending} files{where}")
    return chosen
