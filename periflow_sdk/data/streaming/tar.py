"""Tar shards: the files of a sample lie behind each other and share their name to the first dot."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.source import DataFile
from periflow_sdk.data.streaming.files import split_name
from periflow_sdk.data.streaming.order import Block
from periflow_sdk.data.streaming.tarindex import INDEX_MEMBER, kept_starts, unpack_starts
from periflow_sdk.errors import IntegrityError, UsageError

COUNTING_THREADS = 8

Data = mmap.mmap | bytes

_BLOCK = 512
_REGULAR = (0x30, 0, 0x37)  # "0", NUL, "7"
_GNU_NAME, _PAX, _PAX_GLOBAL = 0x4C, 0x78, 0x67  # "L", "x", "g"


def tar_layout(dataset: Dataset, files: Sequence[DataFile], counts: Mapping[str, int]) -> TarLayout:
    """The layout of tar shards.

    Args:
        dataset: Reads them.
        files: The shards.
        counts: How many samples each has. If one is not known, all shards are fetched and
            counted, once on each node.
    """
    if all(file.path in counts for file in files):
        return TarLayout(files, [counts[file.path] for file in files], {})
    starts = kept_starts(dataset, files, lambda: _count(dataset, files))
    by_path = {file.path: each for file, each in zip(files, starts, strict=True)}
    return TarLayout(files, [len(each) for each in starts], by_path)


class TarLayout:
    """A block is a shard.

    Args:
        files: The shards.
        counts: Samples of each.
        starts: Where the samples of a shard start, of those where it is known.
    """

    name = "tar"
    kept_open = 64

    def __init__(
        self,
        files: Sequence[DataFile],
        counts: Sequence[int],
        starts: Mapping[str, Sequence[int]],
    ) -> None:
        self._starts = starts
        self.blocks = [
            Block(file.path, count, file.size) for file, count in zip(files, counts, strict=True)
        ]

    def open(self, block: Block, path: Path | None) -> OpenShard:
        """Map a shard into the memory."""
        assert path is not None
        data = mapped(path)
        starts = self._starts.get(block.path or "")
        if starts is None:
            starts = sample_starts(data)
        if len(starts) != block.samples:
            raise IntegrityError(
                f"it has {len(starts)} samples, index.json says {block.samples}",
                hint="Write index.json anew, or remove it.",
            )
        return OpenShard(data, starts)


class OpenShard:
    """A shard in the memory."""

    def __init__(self, data: Data, starts: Sequence[int]) -> None:
        self._data = data
        self._starts = starts

    def read(self, numbers: Sequence[int]) -> list[Any]:
        """``{"__key__": name to the first dot, ending: bytes, ...}`` for each."""
        data, starts, last = self._data, self._starts, len(self._starts) - 1
        end = len(data)
        samples = []
        for number in numbers:
            stop = starts[number + 1] if number < last else end
            samples.append(_sample(data, starts[number], stop))
        return samples


def mapped(path: Path) -> Data:
    """The content of a file, without reading it; an empty one has no mapping."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def sample_starts(data: Data) -> array[int]:
    """Where the samples of a tar start.

    Raises:
        IntegrityError: It is no tar, or cut off.
    """
    starts = array("Q")
    last_key = ""
    for start, name, first, size in members(data, 0, len(data)):
        if not starts and name == INDEX_MEMBER:
            return unpack_starts(data[first : first + size])
        key, _ = split_name(name)
        if _is_meta(name) or key == last_key:
            continue
        last_key = key
        starts.append(start)
    return starts


def members(data: Data, start: int, stop: int) -> Iterator[tuple[int, str, int, int]]:
    """The regular files of a tar.

    Args:
        data: All of it.
        start: Where to begin, at a header.
        stop: Before which header to end.

    Returns:
        Where its header starts, its name, where its content starts, its size.
    """
    begin, long_name, long_size = start, "", None
    while start + _BLOCK <= stop:
        header = data[start : start + _BLOCK]
        if not header[0]:
            return
        content = start + _BLOCK
        size = _number(header[124:136])
        kind = header[156]
        end = content + (size + _BLOCK - 1) // _BLOCK * _BLOCK
        if kind in _REGULAR:
            if long_size is not None:
                size = long_size
                end = content + (size + _BLOCK - 1) // _BLOCK * _BLOCK
            if content + size > len(data):
                raise IntegrityError("the tar ends in the middle of a file")
            yield begin, long_name or _name(header), content, size
            long_name, long_size = "", None
        elif kind == _GNU_NAME:
            long_name = data[content : content + size].rstrip(b"\0").decode("utf-8", "replace")
        elif kind == _PAX:
            fields = _pax(data[content : content + size])
            long_name = fields.get("path", long_name)
            long_size = int(fields["size"]) if "size" in fields else long_size
        elif kind != _PAX_GLOBAL:  # a folder or a link
            long_name, long_size = "", None
        start = end
        if not (long_name or long_size is not None):
            begin = start


def _sample(data: Data, start: int, stop: int) -> dict[str, Any]:
    sample: dict[str, Any] = {}
    for _, name, content, size in members(data, start, stop):
        key, field = split_name(name)
        if not sample:
            sample["__key__"] = key
        elif _is_meta(name):
            continue
        sample[field] = data[content : content + size]
    return sample


def shard_counts(folder: str, content: Mapping[str, Any]) -> dict[str, int]:
    """Samples of each shard that an ``index.json`` names: of ``--pack``, or webdataset's own.

    Raises:
        UsageError: It is damaged.
    """
    shards = content.get("shardlist")
    if not isinstance(shards, list):
        return {}
    try:
        return {folder + each["url"]: int(each["nsamples"]) for each in shards}
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{folder}index.json has shards without url or nsamples") from None


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # more than octal digits can say
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        raise IntegrityError("it is no tar, or damaged") from None


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return name.decode("utf-8", "replace")


def _pax(content: bytes) -> dict[str, str]:
    fields = {}
    while content:
        length = int(content.partition(b" ")[0])
        name, _, value = content[:length].partition(b" ")[2].rstrip(b"\n").partition(b"=")
        fields[name.decode()] = value.decode("utf-8", "replace")
        content = content[length:]
    return fields


def _is_meta(name: str) -> bool:
    """Of webdataset's own, or of macOS."""
    last = name.rpartition("/")[2]
    return (last.startswith("__") and last.endswith("__")) or last.startswith("._")


def _count(dataset: Dataset, files: Sequence[DataFile]) -> list[array[int]]:
    def one(file: DataFile) -> array[int]:
        try:
            return sample_starts(mapped(dataset.fetch(file.path)))
        except IntegrityError as error:
            raise IntegrityError(f"{file.path}: {error.message}") from error

    with ThreadPoolExecutor(COUNTING_THREADS, "periflow-count") as pool:
        return list(pool.map(one, files))
