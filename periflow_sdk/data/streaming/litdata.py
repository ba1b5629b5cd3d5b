"""The layout of litdata: chunks of items, each a tree of values."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from periflow_sdk.data.streaming.litjson import read_json
from periflow_sdk.data.streaming.order import Block
from periflow_sdk.data.streaming.table import OpenTable
from periflow_sdk.data.streaming.tar import mapped
from periflow_sdk.errors import IntegrityError, UsageError

_TORCH_TYPES = (
    *("float32", "float32", "float64", "float64", "complex64", "complex64"),
    *("complex128", "complex128", "float16", "float16", "bfloat16"),
    *("uint8", "int8", "int16", "int16", "int32", "int32", "int64", "int64", "bool", "uint16"),
)
_NUMPY_TYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
)


class LitdataLayout:
    """A block is a chunk.

    Images, audio, files and pickled values come as the bytes that they are.

    Args:
        folder: Of the index: "" or with a slash at its end.
        index: The content of ``index.json``.
        sizes: The bytes of each file of the data set.

    Raises:
        UsageError: Its chunks are of a kind that cannot be read.
        IntegrityError: A chunk of the index is missing.
    """

    name = "litdata"
    kept_open = 64

    def __init__(self, folder: str, index: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self._config = config = index["config"]
        loader = config.get("item_loader") or "PyTreeLoader"
        kind = config.get("encryption") or config.get("compression") or loader
        if kind != "PyTreeLoader":
            raise UsageError(
                f"{folder}index.json is of chunks that cannot be read ({kind})",
                hint="chunks that optimize() writes by default can: neither compressed nor "
                "encrypted, and of items",
            )
        self._items: _Items | None = None
        self.blocks = []
        for chunk in index["chunks"]:
            path = folder + chunk["filename"]
            if path not in sizes:
                raise IntegrityError(f"{folder}index.json names {path}, which is missing.")
            self.blocks.append(Block(path, chunk["chunk_size"], sizes[path]))

    def open(self, block: Block, path: Path | None) -> OpenTable:
        """Map a chunk into the memory."""
        assert path is not None
        if self._items is None:
            self._items = _Items(self._config["data_format"], self._config["data_spec"])
        return OpenTable(mapped(path), block.samples, self._items.decode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_items": None}


class _Items:
    """Takes an item apart: the sizes of its values, then the values.

    Args:
        formats: How each value is written.
        spec: The tree that the values are leaves of, as torch writes it.
    """

    def __init__(self, formats: list[str], spec: str) -> None:
        self._decoders = [_decoder(each) for each in formats]
        self._sizes = struct.Struct(f"<{len(formats)}I")
        self._build = _builder(json.loads(spec)[1])

    def decode(self, data: bytes) -> Any:
        start = self._sizes.size
        values = []
        for decode, size in zip(self._decoders, self._sizes.unpack_from(data), strict=True):
            value = data[start : start + size]
            values.append(decode(value) if decode is not None else value)
            start += size
        return self._build(iter(values))


def _builder(spec: Mapping[str, Any]) -> Callable[[Iterator[Any]], Any]:
    """What puts values into a tree of dicts, lists and tuples."""
    kind, children = spec["type"], [_builder(each) for each in spec["children_spec"]]
    if kind is None:
        return next
    if kind == "builtins.dict":
        keys = json.loads(spec["context"])
        return lambda values: {
            key: child(values) for key, child in zip(keys, children, strict=True)
        }
    if kind in ("builtins.list", "builtins.tuple"):
        sequence = list if kind == "builtins.list" else tuple
        return lambda values: sequence(child(values) for child in children)
    raise UsageError(f"items with a {kind} in them cannot be read")


def _decoder(name: str) -> Callable[[bytes], Any] | None:
    """How to read values of a format; None where they are bytes."""
    kind, _, detail = name.partition(":")
    if kind in ("no_header_tensor", "tensor"):
        return _tensor_decoder(_TORCH_TYPES[int(detail)] if detail else None)
    if kind in ("no_header_numpy", "numpy"):
        return _array_decoder(_NUMPY_TYPES[int(detail)] if detail else None)
    return _PLAIN.get(kind)


_PLAIN: dict[str, Callable[[bytes], Any]] = {
    "str": bytes.decode,
    "string": bytes.decode,
    "bool": lambda data: bool(struct.unpack("?", data)[0]),
    "int": lambda data: struct.unpack("<q", data)[0],
    "float": lambda data: struct.unpack("<d", data)[0],
    "json": read_json,
}


def _tensor_decoder(dtype: str | None) -> Callable[[bytes], Any]:
    """Of flat tensors of one type, or of any with type and shape before the values."""
    import torch

    def decode(data: bytes) -> Any:
        if dtype is not None:
            return tensor(data, getattr(torch, dtype))
        number, rank = struct.unpack_from(">2I", data)
        shape = struct.unpack_from(f">{rank}I", data, 8)
        return tensor(data[8 + 4 * rank :], getattr(torch, _TORCH_TYPES[number])).reshape(shape)

    def tensor(data: bytes, kind: Any) -> Any:
        # A bytearray: torch warns of memory that cannot be written.
        return torch.frombuffer(bytearray(data), dtype=kind) if data else torch.empty(0, dtype=kind)

    return decode


def _array_decoder(dtype: str | None) -> Callable[[bytes], Any]:
    """Of flat arrays of one type, or of any with type and shape before the values."""
    import numpy as np

    def decode(data: bytes) -> Any:
        if dtype is not None:
            return np.frombuffer(data, dtype).copy()
        number, rank = struct.unpack_from("<2I", data)
        shape = struct.unpack_from(f"<{rank}I", data, 8)
        values = np.frombuffer(data, _NUMPY_TYPES[number], offset=8 + 4 * rank)
        return values.copy().reshape(shape)

    return decode
