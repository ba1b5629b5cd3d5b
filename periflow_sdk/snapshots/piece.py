"""What an upload knows of its chunks so far, and the manifest that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap

from blake3 import blake3

from periflow_sdk.snapshots.chunking import Cut
from periflow_sdk.snapshots.manifest import (
    Chunk,
    Entry,
    Extent,
    FileEntry,
    Manifest,
    joined_hash,
)
from periflow_sdk.snapshots.scan import Plan


@dataclass(slots=True)
class Piece:
    """A chunk to be: the hash is empty until it is known, a buffer holds what was read just now."""

    cut: Cut
    hash: str = ""
    buffer: mmap | None = None


def manifest_of(plan: Plan, pieces: Sequence[Piece], hashes: Mapping[int, str]) -> Manifest:
    """Describe what was uploaded.

    Args:
        pieces: All of the plan, in the order in which it was cut: the same files give the same
            manifest, whichever was read first.
        hashes: Number of a file in the plan → its hash, of those that one chunk holds.
    """
    chunks = {piece.hash: Chunk(piece.hash, piece.cut.size) for piece in pieces}
    numbers = {name: number for number, name in enumerate(chunks)}
    extents: dict[int, list[Extent]] = {}
    parts: dict[int, list[Chunk]] = {}
    for piece in pieces:
        position = 0
        for part in piece.cut.segments:
            extent = Extent(numbers[piece.hash], position, part.length)
            extents.setdefault(part.file, []).append(extent)
            parts.setdefault(part.file, []).append(chunks[piece.hash])
            position += part.length
    empty = blake3(b"").hexdigest()
    entries: list[Entry] = [*plan.folders, *plan.links]
    for number, file in enumerate(plan.files):
        found = tuple(extents.get(number, ()))
        name = joined_hash(parts[number]) if len(found) > 1 else hashes.get(number, empty)
        entries.append(FileEntry(file.path, file.size, file.mode, name, found))
    entries.sort(key=lambda entry: entry.path)
    return Manifest(tuple(chunks.values()), tuple(entries))
