"""Many small files packed into tar shards that know where their samples start."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from periflow_sdk.data.streaming.files import split_name
from periflow_sdk.data.streaming.tarindex import INDEX_MEMBER, pack_starts
from periflow_sdk.errors import PeriFlowError, UsageError
from periflow_sdk.snapshots.scan import SourceFile, Stamp

SHARD_BYTES = 10_000_000

_BLOCK = 512
_PIECE_BYTES = 1 << 20
_END = bytes(2 * _BLOCK)


@dataclass(frozen=True)
class Shard:
    """A tar to be written.

    Args:
        name: Its file's name.
        samples: The files of each sample, which share their path to the first dot.
    """

    name: str
    samples: Sequence[Sequence[SourceFile]]

    @property
    def size(self) -> int:
        """Bytes of its files, without what the tar adds."""
        return sum(file.size for sample in self.samples for file in sample)


def plan_shards(files: Sequence[SourceFile], shard_bytes: int = SHARD_BYTES) -> list[Shard]:
    """Distribute files over shards, mixed: a folder's files are not one shard's.

    A stream mixes the samples of neighbouring shards, so that folders of one class each would
    come class by class. The mix is a matter of the paths alone: the same again each time. So is,
    within limits, where a shard ends: when a file changes, most of the shards do not.

    Args:
        files: Files whose paths are equal to the first dot of the name are one sample and stay
            together.
        shard_bytes: About the size of a shard: from three quarters to five quarters of it.
    """
    groups: dict[str, list[SourceFile]] = {}
    for file in sorted(files, key=lambda each: each.path):
        groups.setdefault(split_name(file.path)[0], []).append(file)
    rarity = _rarity(sum(file.size for file in files) // max(len(groups), 1), shard_bytes)
    found: list[list[list[SourceFile]]] = [[]]
    size = 0
    for key in sorted(groups, key=_mixed):
        group = groups[key]
        found[-1].append(group)
        size += sum(file.size for file in group)
        may_end = size >= shard_bytes * 3 // 4 and crc32(key.encode()) % rarity == 0
        if may_end or size >= shard_bytes * 5 // 4:
            found.append([])
            size = 0
    digits = max(5, len(str(len(found))))
    return [Shard(f"shard-{n:0{digits}}.tar", each) for n, each in enumerate(found) if each]


def _rarity(sample_bytes: int, shard_bytes: int) -> int:
    """Of how many samples one may be the last of a shard: of those in an eighth to a quarter of it.

    A power of two, which does not change as soon as the samples do.
    """
    in_a_quarter = shard_bytes // 4 // max(sample_bytes, 1)
    return 1 << max(0, in_a_quarter.bit_length() - 1)


def pack_files(
    files: Sequence[SourceFile],
    target: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], None] | None = None,
) -> list[Shard]:
    """Write files as tar shards with an ``index.json``.

    The shards are tars as webdataset reads them; a first member that it leaves out says where
    samples start, and the index how many samples each shard has.

    Args:
        files: As `periflow_sdk.snapshots.scan.plan_folder` finds them.
        target: A new folder for the shards.
        shard_bytes: About the size of a shard.
        progress: Called with the bytes of each file that was written.

    Raises:
        UsageError: There are no files.
        PeriFlowError: One changed while it was packed (``file_changed``).
    """
    if not files:
        raise UsageError("There are no files to pack.")
    target.mkdir(parents=True)
    shards = plan_shards(files, shard_bytes)
    for shard in shards:
        with (target / shard.name).open("wb") as out:
            _write(shard, out, progress)
    _write_index(shards, target)
    return shards


def _write_index(shards: Sequence[Shard], target: Path) -> None:
    entries = [
        {
            "url": shard.name,
            "nsamples": len(shard.samples),
            "filesize": (target / shard.name).stat().st_size,
        }
        for shard in shards
    ]
    index = {"wids_version": 1, "shardlist": entries}
    (target / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def _mixed(key: str) -> bytes:
    return hashlib.sha256(os.fsencode(key)).digest()


def _write(shard: Shard, out: BinaryIO, progress: Callable[[int], None] | None) -> None:
    starts, at = [], _padded(8 * len(shard.samples)) + _BLOCK
    for sample in shard.samples:
        starts.append(at)
        at += sum(len(_header(file.path, file.size)) + _padded(file.size) for file in sample)
    index = pack_starts(starts)
    out.write(_header(INDEX_MEMBER, len(index)) + index + _padding(len(index)))
    for sample in shard.samples:
        for file in sample:
            out.write(_header(file.path, file.size))
            _copy(file, out)
            out.write(_padding(file.size))
            if progress is not None:
                progress(file.size)
    out.write(_END)


def _copy(file: SourceFile, out: BinaryIO) -> None:
    left = file.size
    with Path(file.disk).open("rb") as content:
        while left and (piece := content.read(min(left, _PIECE_BYTES))):
            out.write(piece)
            left -= len(piece)
        if left or Stamp.of(os.fstat(content.fileno())) != file.stamp:
            raise PeriFlowError(
                f"{file.path} changed while it was packed.",
                code="file_changed",
                hint="Run it again when nothing writes to the folder.",
            )


def _header(path: str, size: int) -> bytes:
    """The header of a regular file; a long name comes before it as GNU tar writes it."""
    name = os.fsencode(path)
    if len(name) <= 100:
        return _plain_header(name, size, b"0")
    long = name + b"\0"
    return (
        _plain_header(b"././@LongLink", len(long), b"L")
        + long
        + _padding(len(long))
        + _plain_header(name[:100], size, b"0")
    )


def _plain_header(name: bytes, size: int, kind: bytes) -> bytes:
    length = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    fields = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + length
    header = (fields + b"00000000000\0" + b" " * 8 + kind + bytes(100) + b"ustar  \0").ljust(
        _BLOCK, b"\0"
    )
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _padding(size: int) -> bytes:
    return bytes(_padded(size) - size)
