"""Where the samples of tar shards start: said by packed shards, kept for others once counted."""

from __future__ import annotations

import hashlib
import os
import sys
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.source import DataFile
from periflow_sdk.environment import cache_environment
from periflow_sdk.errors import IntegrityError

INDEX_MEMBER = "__index__"  # webdataset leaves out members with such names


def pack_starts(starts: Sequence[int]) -> bytes:
    """Starts as 64-bit numbers, the least byte first."""
    packed = array("Q", starts)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_starts(content: bytes) -> array[int]:
    """What pack_starts() packed.

    Raises:
        IntegrityError: It is something else.
    """
    if len(content) % 8:
        raise IntegrityError("the index of the tar is damaged")
    starts = array("Q")
    starts.frombytes(content)
    if sys.byteorder == "big":
        starts.byteswap()
    return starts


def kept_starts(
    dataset: Dataset, files: Sequence[DataFile], count: Callable[[], list[array[int]]]
) -> list[array[int]]:
    """The starts of all shards as counted before on this machine; counted now if they were not.

    Args:
        dataset: Whose shards.
        files: The shards.
        count: Gives the starts of each.
    """
    kept = cache_environment().folder / "tar-index" / f"{_identity(dataset, files)}.bin"
    try:
        numbers = unpack_starts(kept.read_bytes())
    except (OSError, IntegrityError):
        numbers = array("Q")
    if len(numbers) >= len(files) and len(numbers) == len(files) + sum(numbers[: len(files)]):
        starts, at = [], len(files)
        for length in numbers[: len(files)]:
            starts.append(numbers[at : at + length])
            at += length
        return starts
    starts = count()
    _keep(kept, [len(each) for each in starts] + [n for each in starts for n in each])
    return starts


def _identity(dataset: Dataset, files: Sequence[DataFile]) -> str:
    identity = hashlib.sha256()
    for file in files:
        # A folder has no etags: there the file itself says when it was written.
        mark = file.etag or os.stat(dataset.fetch(file.path)).st_mtime_ns  # noqa: PTH116
        identity.update(f"{file.path}\0{file.size}\0{mark}\n".encode())
    return identity.hexdigest()[:40]


def _keep(path: Path, numbers: Sequence[int]) -> None:
    """Nothing is lost if it cannot be kept: they are counted again."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(pack_starts(numbers))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
