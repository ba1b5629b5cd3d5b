"""What goes wrong on the way, and what a user sees of it: nothing, or one clear error."""

from __future__ import annotations

import itertools
import os
import shutil
import threading

import pytest

from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import (
    IntegrityError,
    PeriFlowError,
    ServerUnreachableError,
)
from periflow_sdk.snapshots import download_snapshot, read_manifest, upload_files, upload_folder
from periflow_sdk.snapshots.manifest import (
    joined_hash,
)

MIB = 1024 * 1024


@pytest.mark.parametrize("fault", ["expire", "unavailable", "stall"])
def test_upload_survives(small_server, small_client, big, quick, tally, fault) -> None:
    setattr(small_server.faults, fault, 2)
    upload_folder(small_client, "p", big, keep_name=False, progress=tally, tuning=quick)
    assert len(small_server.stored()) == 5
    assert tally.sent == tally.size, "bytes sent again are not told again"


@pytest.mark.parametrize("fault", ["expire", "unavailable", "stall", "cut_short"])
def test_download_survives(
    small_server, small_client, big, stored, quick, tally, tmp_path, listing, fault
) -> None:
    setattr(small_server.faults, fault, 2)
    download_snapshot(small_client, "p", stored.id, tmp_path / "back", progress=tally, tuning=quick)
    assert listing(tmp_path / "back") == listing(big)
    assert tally.sent == tally.size


def test_a_store_that_never_takes_a_chunk_ends_the_upload(
    small_server, small_client, big, quick
) -> None:
    small_server.faults.unavailable = 1000
    with pytest.raises(PeriFlowError) as caught:
        upload_folder(small_client, "p", big, keep_name=False, tuning=quick)
    assert caught.value.code == "transfer_failed"
    assert "503" in caught.value.message
    assert not small_server.manifests


def test_a_server_that_goes_away_is_named(small_server, big, quick) -> None:
    small_server.close()
    with (
        ApiClient(small_server.url, tries=1) as client,
        pytest.raises(ServerUnreachableError, match=small_server.url),
    ):
        upload_folder(client, "p", big, keep_name=False, tuning=quick)


def test_chunks_that_vanished_before_the_commit_are_sent_again(
    small_server, small_client, big, stored
) -> None:
    small_server.faults.forget_at_commit = set(sorted(small_server.stored())[:2])
    again = upload_folder(small_client, "p", big, keep_name=False)
    assert again.id == stored.id
    assert len(small_server.stored()) == 5
    assert len(small_server.puts) == 7


def test_a_corrupted_chunk_is_fetched_again(
    small_server, small_client, big, stored, quick, tmp_path, listing
) -> None:
    victim = sorted(small_server.stored())[0]
    small_server.faults.corrupt[victim] = 2
    download_snapshot(small_client, "p", stored.id, tmp_path / "back", tuning=quick)
    assert small_server.gets.count(victim) == 3
    assert listing(tmp_path / "back") == listing(big)


def test_a_chunk_that_stays_corrupted_is_named_and_nothing_appears(
    small_server, small_client, stored, quick, tmp_path
) -> None:
    victim = sorted(small_server.stored())[0]
    small_server.faults.corrupt[victim] = 1000
    with pytest.raises(IntegrityError, match=victim):
        download_snapshot(small_client, "p", stored.id, tmp_path / "back", tuning=quick)
    assert not (tmp_path / "back").exists()
    assert small_server.gets.count(victim) == 3


def test_a_damaged_file_of_a_local_store_is_refused(
    small_server, small_client, stored, quick, tmp_path
) -> None:
    small_server.direct = True
    victim = small_server.path(sorted(small_server.stored())[0])
    content = bytearray(victim.read_bytes())
    content[1000] ^= 1
    victim.write_bytes(content)
    with pytest.raises(IntegrityError, match=victim.name):
        download_snapshot(small_client, "p", stored.id, tmp_path / "back", tuning=quick)
    assert not (tmp_path / "back").exists()


def test_an_announced_path_elsewhere_is_not_believed(
    small_server, small_client, big, tmp_path, monkeypatch
) -> None:
    """A server may name any path; only one that can be nothing but a chunk is touched."""
    target = tmp_path / "home/.ssh/authorized_keys"
    target.parent.mkdir(parents=True)
    original = small_server.location
    monkeypatch.setattr(
        small_server, "location", lambda name: {**original(name), "path": str(target)}
    )
    snapshot = upload_folder(small_client, "p", big, keep_name=False)
    assert not target.exists()
    assert len(small_server.puts) == 5
    download_snapshot(small_client, "p", snapshot.id, tmp_path / "back")
    assert len(small_server.gets) == 5


def test_a_linked_store_folder_is_not_followed(small_server, small_client, tmp_path) -> None:
    small_server.direct = True
    (tmp_path / "one").write_text("x")
    snapshot = upload_files(small_client, "p", {"one": tmp_path / "one"})
    (name,) = small_server.stored()
    shard = small_server.path(name).parent
    shutil.move(shard, tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    download_snapshot(small_client, "p", snapshot.id, tmp_path / "back")
    assert small_server.gets == [name]


def test_the_same_files_give_the_same_manifest_whatever_is_read_first(
    small_server, small_client, big, monkeypatch
) -> None:
    from periflow_sdk.snapshots import upload

    first = upload_folder(small_client, "p", big, keep_name=False)
    read, barrier = upload.read_cut, threading.Barrier(2)

    def second_one_first(cut, *arguments):
        offset = cut.segments[0].offset
        if offset == 16 * MIB:
            hashes = read(cut, *arguments)
            barrier.wait(60)
            return hashes
        if offset == 0:
            barrier.wait(60)
        return read(cut, *arguments)

    monkeypatch.setattr(upload, "read_cut", second_one_first)
    assert upload_folder(small_client, "p", big, keep_name=False).id == first.id
    file = next(read_manifest(small_client, "p", first.id).files)
    chunks = read_manifest(small_client, "p", first.id).chunks
    assert file.hash == joined_hash(chunks[extent.chunk] for extent in file.extents)


def test_a_file_written_to_under_way_is_never_committed(
    small_server, small_client, big, monkeypatch
) -> None:
    from periflow_sdk.snapshots import reading

    fill, calls = reading._fill, itertools.count()

    def fill_then_write(*arguments):
        fill(*arguments)
        if next(calls) == 100:
            with (big / "weights.bin").open("r+b") as file:
                file.seek(69 * MIB)
                file.write(os.urandom(16))

    monkeypatch.setattr(reading, "_fill", fill_then_write)
    with pytest.raises(PeriFlowError) as caught:
        upload_folder(small_client, "p", big, keep_name=False)
    assert caught.value.code == "file_changed"
    assert "weights.bin" in caught.value.message
    assert not small_server.manifests


@pytest.mark.parametrize("change", ["shrink", "replace", "remove"])
def test_a_file_changed_since_the_plan_is_noticed(small_server, small_client, big, change) -> None:
    from periflow_sdk.snapshots import plan_folder

    plan = plan_folder(big)
    path = big / "weights.bin"
    if change == "shrink":
        os.truncate(path, 1000)
    elif change == "replace":
        (big / "new").write_bytes(path.read_bytes())
        (big / "new").rename(path)
    else:
        path.unlink()
    with pytest.raises(PeriFlowError) as caught:
        upload_folder(small_client, "p", big, keep_name=False, plan=plan)
    assert caught.value.code == "file_changed"
    assert not small_server.manifests


def test_a_chunk_that_the_store_has_lost_is_named(server, big, tmp_path) -> None:
    client = server.client()
    snapshot = upload_folder(client, client.project, big, keep_name=False)
    chunks = server.data_dir / "storage/chunks" / client.project
    lost = sorted(chunks.glob("??/*"))[0]
    lost.unlink()
    with pytest.raises(IntegrityError, match=lost.name):
        download_snapshot(client, client.project, snapshot.id, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    upload_folder(client, client.project, big, keep_name=False)
    download_snapshot(client, client.project, snapshot.id, tmp_path / "back")


def test_a_real_server_that_refuses_an_old_address_is_asked_for_a_new_one(
    place, big, quick, tmp_path, listing, monkeypatch
) -> None:
    """It answers 403 before it has read the chunk, and closes the connection."""
    spoilt = []

    def spoil(locations):
        for location in locations:
            if location.hash not in spoilt:
                spoilt.append(location.hash)
                location.url = location.url.replace("signature=", "signature=00")
                location.path = None
        return locations

    for name in ("missing_chunks", "chunk_sources"):
        ask = getattr(place.client, name)
        monkeypatch.setattr(place.client, name, lambda *given, ask=ask: spoil(ask(*given)))
    snapshot = upload_folder(place.client, place.project, big, keep_name=False, tuning=quick)
    assert len(spoilt) == 5
    spoilt.clear()
    download_snapshot(place.client, place.project, snapshot.id, tmp_path / "back", tuning=quick)
    assert len(spoilt) == 5
    assert listing(tmp_path / "back") == listing(big)
