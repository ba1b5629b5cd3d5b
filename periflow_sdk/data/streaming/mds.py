"""The layout of mosaicml-streaming: shards of samples in columns (MDS, version 2)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from periflow_sdk.data.streaming.order import Block
from periflow_sdk.data.streaming.table import OpenTable, content
from periflow_sdk.errors import IntegrityError, UsageError

_SCALARS = (
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
)
_ARRAY_TYPES = {
    **{8 << n: f"uint{8 << n}" for n in range(4)},
    **{(8 << n) + 1: f"int{8 << n}" for n in range(4)},
    **{(8 << n) + 2: f"float{8 << n}" for n in range(1, 4)},
}


class MdsLayout:
    """A block is a shard.

    Images and pickled columns come as the bytes that they are.

    Args:
        folder: Of the index: "" or with a slash at its end.
        index: The content of ``index.json``.
        sizes: The bytes of each file of the data set.

    Raises:
        UsageError: The index is of another version or format.
        IntegrityError: A shard of the index is missing.
    """

    name = "mds"
    kept_open = 64

    def __init__(self, folder: str, index: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        shards = index["shards"]
        if index.get("version") != 2 or any(each.get("format") != "mds" for each in shards):
            raise UsageError(
                f"{folder}index.json is of a version or format of shards that cannot be read",
                hint="MDS of version 2 can",
            )
        self._compression: list[str | None] = []
        self._columns: list[_Columns] = []
        self.blocks = []
        for number, shard in enumerate(shards):
            path = folder + (shard["zip_data"] or shard["raw_data"])["basename"]
            if path not in sizes:
                raise IntegrityError(f"{folder}index.json names {path}, which is missing.")
            self._compression.append(shard["compression"] if shard["zip_data"] else None)
            self._columns.append(
                _Columns(shard["column_names"], shard["column_encodings"], shard["column_sizes"])
            )
            self.blocks.append(Block(path, shard["samples"], sizes[path], number))

    def open(self, block: Block, path: Path | None) -> OpenTable:
        """Map a shard into the memory."""
        assert path is not None
        data = content(path, self._compression[block.number])
        return OpenTable(data, block.samples, self._columns[block.number].decode)


class _Columns:
    """Takes a sample apart: sizes of the columns that vary, then the values.

    Args:
        names: Of the columns.
        encodings: How each is written.
        sizes: The bytes of each, where they never vary.
    """

    def __init__(
        self, names: Sequence[str], encodings: Sequence[str], sizes: Sequence[int | None]
    ) -> None:
        self._columns = list(zip(names, map(_decoder, encodings), sizes, strict=True))
        self._sizes = struct.Struct(f"<{sum(not size for size in sizes)}I")

    def decode(self, data: bytes) -> dict[str, Any]:
        varying = iter(self._sizes.unpack_from(data))
        start = self._sizes.size
        sample = {}
        for name, decode, size in self._columns:
            end = start + (size or next(varying))
            value = data[start:end]
            sample[name] = decode(value) if decode is not None else value
            start = end
        return sample


def _decoder(encoding: str) -> Callable[[bytes], Any] | None:
    """How to read values of a column; None where they are bytes."""
    name, _, form = encoding.partition(":")
    if name == "int":
        return lambda data: int.from_bytes(data, "little", signed=True)
    if name == "ndarray":
        return _array_decoder(form)
    if name in _SCALARS:
        return _scalar_decoder(name)
    return _TEXTS.get(name)


def _decimal(data: bytes) -> Any:
    from decimal import Decimal

    return Decimal(data.decode())


_TEXTS: dict[str, Callable[[bytes], Any]] = {
    "str": bytes.decode,
    "str_int": int,
    "str_float": float,
    "str_decimal": _decimal,
    "json": json.loads,
}


def _scalar_decoder(dtype: str) -> Callable[[bytes], Any]:
    import numpy as np

    return lambda data: np.frombuffer(data, dtype)[0]


def _array_decoder(form: str) -> Callable[[bytes], Any]:
    """Of arrays whose type and shape are in the encoding's name, or before the values."""
    import numpy as np

    fixed_type, _, dimensions = form.partition(":")
    fixed_shape = tuple(map(int, dimensions.split(","))) if dimensions else None

    def decode(data: bytes) -> Any:
        at, dtype, shape = 0, fixed_type, fixed_shape
        if not dtype:
            dtype, at = _ARRAY_TYPES[data[0]], 1
        if shape is None:
            rank, width = data[at] >> 2, 1 << (data[at] & 3)
            at += 1
            shape = tuple(np.frombuffer(data, f"<u{width}", rank, at).tolist())
            at += rank * width
        return np.frombuffer(data, dtype, offset=at).reshape(shape)

    return decode
