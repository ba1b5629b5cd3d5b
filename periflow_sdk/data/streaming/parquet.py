"""Parquet files: a row is a sample."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.source import DataFile
from periflow_sdk.data.streaming.order import Block
from periflow_sdk.errors import IntegrityError, MissingExtraError

FOOTER_THREADS = 16
_TAIL = 65_536
_MAGIC = b"PAR1"


class ParquetLayout:
    """A block is a row group. Of the files only the ends are read before their rows are wanted.

    Args:
        dataset: Reads the ends.
        files: The files.

    Raises:
        MissingExtraError: pyarrow is not installed.
        IntegrityError: A file is no parquet file.
    """

    name = "parquet"
    kept_open = 2

    def __init__(self, dataset: Dataset, files: Sequence[DataFile]) -> None:
        _pyarrow()
        with ThreadPoolExecutor(FOOTER_THREADS, "periflow-footer") as pool:
            counts = list(pool.map(lambda file: _row_groups(dataset, file), files))
        self.blocks = [
            block
            for file, rows in zip(files, counts, strict=True)
            for block in _file_blocks(file, rows)
        ]

    def open(self, block: Block, path: Path | None) -> OpenRowGroup:
        """Read a row group into the memory."""
        file = _pyarrow().ParquetFile(path, memory_map=True)
        return OpenRowGroup(file.read_row_group(block.number))


class OpenRowGroup:
    """A row group in the memory, a ``pyarrow.Table``."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def read(self, numbers: Sequence[int]) -> list[Any]:
        """``{column: value}`` for each row."""
        first, count = numbers[0], len(numbers)
        if list(numbers) == list(range(first, first + count)):
            rows = self._table.slice(first, count)
        else:
            rows = self._table.take(list(numbers))
        found: list[Any] = rows.to_pylist()
        return found


def _file_blocks(file: DataFile, rows: Sequence[int]) -> Iterator[Block]:
    total = max(sum(rows), 1)
    for number, count in enumerate(rows):
        yield Block(file.path, count, file.size * count // total, number)


def _row_groups(dataset: Dataset, file: DataFile) -> list[int]:
    """How many rows each row group of a file has."""
    parquet = _pyarrow()
    tail = dataset.read_range(file.path, file.size - _TAIL, file.size)
    length = int.from_bytes(tail[-8:-4], "little")
    if tail[-4:] != _MAGIC or length + 8 > file.size:
        raise IntegrityError(f"{file.path} is no parquet file, or damaged.")
    if length + 8 > len(tail):
        tail = dataset.read_range(file.path, file.size - length - 8, file.size)
    # The end alone is a file without rows, and says all that is asked.
    metadata = parquet.read_metadata(io.BytesIO(_MAGIC + tail[-8 - length :]))
    return [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            "Parquet files need pyarrow.", hint="pip install 'periflow_sdk[parquet]'"
        ) from None
    return pyarrow.parquet
