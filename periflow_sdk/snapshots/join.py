"""One snapshot of several: the files that each node has of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from periflow_sdk.snapshots.manifest import Chunk, Entry, Extent, FileEntry, Manifest


def join_manifests(manifests: Sequence[Manifest]) -> Manifest:
    """All entries of all manifests; where several have the same path, the first one counts.

    Raises:
        UnsafePathError: what is a file in one is a folder in another.
    """
    chosen: dict[str, tuple[Manifest, Entry]] = {}
    for manifest in manifests:
        for entry in manifest.entries:
            chosen.setdefault(entry.path, (manifest, entry))
    numbers: dict[Chunk, int] = {}
    entries = [_moved(manifest, entry, numbers) for _, (manifest, entry) in sorted(chosen.items())]
    joined = Manifest(tuple(numbers), tuple(entries))
    joined.check()
    return joined


def _moved(manifest: Manifest, entry: Entry, numbers: dict[Chunk, int]) -> Entry:
    """An entry whose extents point into the chunks of the joined manifest."""
    if not isinstance(entry, FileEntry):
        return entry
    extents = []
    for extent in entry.extents:
        chunk = numbers.setdefault(manifest.chunks[extent.chunk], len(numbers))
        extents.append(Extent(chunk, extent.offset, extent.length))
    return FileEntry(entry.path, entry.size, entry.mode, entry.hash, tuple(extents))
