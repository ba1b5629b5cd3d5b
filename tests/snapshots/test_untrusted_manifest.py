"""What a manifest says is believed only as far as it cannot do harm."""

from __future__ import annotations

import pytest

from periflow_sdk.errors import (
    IntegrityError,
    NotFoundError,
    UnsafePathError,
)
from periflow_sdk.snapshots import download_snapshot, read_manifest
from periflow_sdk.snapshots.manifest import (
    Chunk,
    DirEntry,
    Extent,
    FileEntry,
    LinkEntry,
    Manifest,
)


def entry(path: str, **changes) -> FileEntry:
    fields = {"size": 1, "mode": 0o644, "hash": "b" * 64, "extents": (Extent(0, 0, 1),)}
    return FileEntry(path, **{**fields, **changes})


@pytest.mark.parametrize(
    "entries",
    [
        (entry("../escape"),),
        (entry("/tmp/escape"),),
        (LinkEntry("l", "/etc/passwd"),),
        (LinkEntry("l", "../../up"),),
        (LinkEntry("d", "."), entry("d/x")),
    ],
)
def test_a_manifest_that_escapes_writes_nothing(
    small_server, small_client, tmp_path, entries
) -> None:
    manifest = Manifest((Chunk("a" * 64, 1),), entries)
    small_server.manifests[manifest.id] = manifest.to_bytes()
    with pytest.raises(UnsafePathError):
        download_snapshot(small_client, "p", manifest.id, tmp_path / "deep/back")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_manifest_other_than_the_one_asked_for_is_refused(small_server, small_client) -> None:
    small_server.manifests["0" * 64] = Manifest((), (DirEntry("d", 0o755),)).to_bytes()
    with pytest.raises(IntegrityError):
        read_manifest(small_client, "p", "0" * 64)


def test_an_unknown_snapshot_is_not_found(place, tmp_path) -> None:
    with pytest.raises(NotFoundError) as caught:
        download_snapshot(place.client, place.project, "0" * 64, tmp_path / "back")
    assert caught.value.code == "snapshot_not_found"
    assert list(tmp_path.iterdir()) == []
