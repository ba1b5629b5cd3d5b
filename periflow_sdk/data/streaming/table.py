"""Files that begin with the offsets of their samples, as litdata and mosaicml-streaming write."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from periflow_sdk.data.streaming.tar import Data, mapped
from periflow_sdk.errors import IntegrityError, MissingExtraError, UsageError


class OpenTable:
    """A file in the memory: a count of samples, one offset more than samples, the samples.

    All numbers have 32 bits, the least byte first.

    Args:
        data: The file.
        samples: How many samples the index says it has.
        decode: Makes a sample of its bytes.

    Raises:
        IntegrityError: The file has another number.
    """

    def __init__(self, data: Data, samples: int, decode: Callable[[bytes], Any]) -> None:
        self._data = data
        self._decode = decode
        found = int.from_bytes(data[:4], "little")
        if found != samples or len(data) < 8 + 4 * samples:
            raise IntegrityError(f"it has {found} samples or is cut off, index.json says {samples}")
        self._offsets = struct.unpack_from(f"<{samples + 1}I", data, 4)

    def read(self, numbers: Sequence[int]) -> list[Any]:
        """The decoded samples."""
        data, offsets, decode = self._data, self._offsets, self._decode
        return [decode(data[offsets[n] : offsets[n + 1]]) for n in numbers]


def content(path: Path, compression: str | None) -> Data:
    """What a file holds, uncompressed.

    Args:
        path: On the local disk.
        compression: Name and perhaps level, as in ``zstd:7``.

    Raises:
        UsageError: It cannot be read here.
        MissingExtraError: It needs a library that is not installed.
    """
    name = (compression or "").partition(":")[0]
    if not name:
        return mapped(path)
    if name == "gz":
        import gzip

        return gzip.decompress(path.read_bytes())
    if name == "bz2":
        import bz2

        return bz2.decompress(path.read_bytes())
    if name in ("zstd", "zst"):
        try:
            import zstandard
        except ImportError:
            raise MissingExtraError(
                "The files are compressed by zstd.", hint="pip install zstandard"
            ) from None
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            return bytes(reader.readall())
    raise UsageError(f"files compressed by {name} cannot be read")
