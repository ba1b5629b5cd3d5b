"""One file a sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.source import DataFile
from periflow_sdk.data.streaming.order import Block


def split_name(path: str) -> tuple[str, str]:
    """Key and field of a file, cut at the first dot of its name.

    Example:
        >>> split_name("train/cat/7.seg.png")
        ('train/cat/7', 'seg.png')
    """
    folder, slash, name = path.rpartition("/")
    key, dot, field = name.partition(".")
    if not key:  # a name that begins with a dot
        return path, "data"
    return folder + slash + key, field if dot else "data"


class FilesLayout:
    """All files are one block, whose samples need no neighbours.

    Args:
        dataset: Reads them, many at once.
        files: The samples.
    """

    name = "files"
    kept_open = 1

    def __init__(self, dataset: Dataset, files: Sequence[DataFile]) -> None:
        self._dataset = dataset
        self._paths = [file.path for file in files]
        self.blocks = [Block(None, len(files), sum(file.size for file in files))]

    def open(self, block: Block, path: Path | None) -> FilesLayout:
        """Nothing is fetched before its sample is read."""
        return self

    def expect(self, numbers: Sequence[int]) -> None:
        """These samples are probably read next, together."""
        self._dataset.expect([self._paths[number] for number in numbers])

    def read(self, numbers: Sequence[int]) -> list[Any]:
        """``{"__key__": path without ending, ending: bytes}`` for each."""
        paths = [self._paths[number] for number in numbers]
        samples = []
        for path, content in zip(paths, self._dataset.read(paths), strict=True):
            key, field = split_name(path)
            samples.append({"__key__": key, field: content})
        return samples
