"""Where files are cut into chunks: decided by paths and sizes alone, before anything is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from periflow_sdk.snapshots.manifest import MAX_CHUNK_BYTES
from periflow_sdk.snapshots.scan import SourceFile

LARGE_FILE_BYTES = 4 * 1024 * 1024
"""A file of this size or more has chunks of its own; smaller ones share packs."""

_PACK_BYTES = 4 * 1024 * 1024
_FULL_SCALE = 1 << 64


@dataclass(frozen=True, slots=True)
class Segment:
    """``length`` bytes at ``offset`` of file number ``file`` of the plan."""

    file: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A chunk to be: its segments in order."""

    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        return sum(segment.length for segment in self.segments)

    def whole_files(self, files: Sequence[SourceFile]) -> list[int]:
        """Numbers of the files that are in this chunk with all their bytes."""
        return [part.file for part in self.segments if part.length == files[part.file].size]


def cut_files(files: Sequence[SourceFile]) -> Iterator[Cut]:
    """The chunks to be: packs of small files, then the pieces of each large one in order.

    A pack ends after a file whose path says so, with a chance that grows with the file's size:
    whether a pack ends there depends on that file alone, so a changed, added or removed file
    changes its own pack and leaves the others as they are.

    Args:
        files: Sorted by path. Empty files are in no chunk.
    """
    yield from _packs(files)
    for index, file in enumerate(files):
        if file.size >= LARGE_FILE_BYTES:
            for offset in range(0, file.size, MAX_CHUNK_BYTES):
                yield Cut((Segment(index, offset, min(MAX_CHUNK_BYTES, file.size - offset)),))


def _packs(files: Sequence[SourceFile]) -> Iterator[Cut]:
    pack: list[Segment] = []
    size = 0
    for index, file in enumerate(files):
        if not 0 < file.size < LARGE_FILE_BYTES:
            continue
        if pack and size + file.size > MAX_CHUNK_BYTES:
            yield Cut(tuple(pack))
            pack, size = [], 0
        pack.append(Segment(index, 0, file.size))
        size += file.size
        if _ends_pack(file):
            yield Cut(tuple(pack))
            pack, size = [], 0
    if pack:
        yield Cut(tuple(pack))


def _ends_pack(file: SourceFile) -> bool:
    draw = int.from_bytes(blake3(file.path.encode()).digest(8), "big")
    return draw * _PACK_BYTES < file.size * _FULL_SCALE
