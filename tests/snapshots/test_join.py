"""Snapshots of several nodes in one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from periflow_sdk.errors import UnsafePathError
from periflow_sdk.snapshots.join import join_manifests
from periflow_sdk.snapshots.manifest import Chunk, DirEntry, Extent, FileEntry, Manifest


def chunk(number: int) -> Chunk:
    return Chunk(f"{number:064x}", 10)


def manifest(**files: int) -> Manifest:
    """Files, each half of the chunk of this number; a chunk of two files is named once."""
    numbers = sorted(set(files.values()))
    entries = [
        FileEntry(name, 5, 0o644, f"{place:064x}", (Extent(numbers.index(n), 0, 5),))
        for place, (name, n) in enumerate(sorted(files.items()))
    ]
    return Manifest(tuple(chunk(n) for n in numbers), tuple(entries))


def content(manifest: Manifest) -> dict[str, Chunk]:
    return {file.path: manifest.chunks[file.extents[0].chunk] for file in manifest.files}


names = st.text("abc", min_size=1, max_size=3)
nodes = st.lists(st.dictionaries(names, st.integers(0, 5), max_size=6), min_size=1, max_size=4)


@given(nodes)
def test_every_file_reads_as_on_the_first_node_that_has_it(files: list[dict[str, int]]) -> None:
    joined = join_manifests([manifest(**each) for each in files])
    expected: dict[str, Chunk] = {}
    for each in files:
        for name, number in each.items():
            expected.setdefault(name, chunk(number))
    assert content(joined) == expected
    assert Manifest.parse(joined.to_bytes()) == joined


def test_one_part_alone_is_the_snapshot_that_it_was() -> None:
    alone = manifest(a=1, b=2)
    assert join_manifests([alone]).id == alone.id


def test_file_and_folder_of_the_same_name_are_refused() -> None:
    folder = Manifest((), (DirEntry("a/b", 0o755),))
    with pytest.raises(UnsafePathError):
        join_manifests([manifest(a=1), folder])
