"""What goes wrong on the way, and what a user sees of it: nothing, or one clear error."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import (
    IntegrityError,
    NotFoundError,
    PeriFlowError,
    ServerUnreachableError,
    UnsafePathError,
)
from periflow_sdk.snapshots import download_snapshot, read_manifest, upload_files, upload_folder
from periflow_sdk.snapshots.manifest import (
    Chunk,
    DirEntry,
    Extent,
    FileEntry,
    LinkEntry,
    Manifest,
    joined_hash,
)
from periflow_sdk.snapshots.transfer import Tuning

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def weights() -> bytes:
    """Five chunks."""
    return os.urandom(65 * MIB)


@pytest.fixture
def big(tmp_path: Path, weights: bytes) -> Path:
    """A file of five chunks in a folder."""
    (tmp_path / "big").mkdir()
    (tmp_path / "big/weights.bin").write_bytes(weights)
    return tmp_path / "big"


@pytest.fixture
def stored(small_client, big):
    """The big folder, stored on the small server."""
    return upload_folder(small_client, "p", big, keep_name=False)


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


UPLOAD = """
import sys
from pathlib import Path
from periflow_sdk.api.client import ApiClient
from periflow_sdk.snapshots import upload_folder
url, token, source, state, project = sys.argv[1:]
with ApiClient(url, token) as client:
    upload_folder(client, project, Path(source), keep_name=False, state_dir=Path(state))
"""

DOWNLOAD = """
import sys
from pathlib import Path
from periflow_sdk.api.client import ApiClient
from periflow_sdk.snapshots import download_snapshot
url, token, snapshot, target, project = sys.argv[1:]
with ApiClient(url, token) as client:
    download_snapshot(client, project, snapshot, Path(target))
"""


def test_killed_upload_sends_only_the_rest(
    small_server, small_client, big, tmp_path, start_process, watch, tally
) -> None:
    small_server.hold_after(2)
    state = tmp_path / "state"
    process = start_process(UPLOAD, small_server.url, "-", big, state, "p")
    assert small_server.held.wait(60)
    watch(process, lambda: len(small_server.stored()) == 2)
    process.kill()
    process.wait()
    small_server.let_go(pass_on=False)
    there = small_server.stored()
    assert len(there) == 2
    small_server.puts.clear()

    upload_folder(small_client, "p", big, keep_name=False, state_dir=state, progress=tally)
    assert set(small_server.puts) == small_server.stored() - there
    assert len(small_server.puts) == 3
    assert 0 < tally.kept <= 32 * MIB
    assert tally.sent + tally.kept == tally.size


def test_an_unchanged_folder_is_not_read_again(
    small_server, small_client, big, tmp_path, monkeypatch
) -> None:
    from periflow_sdk.snapshots import hashcache, reading

    monkeypatch.setattr(hashcache, "_RACY_NS", -1)
    state = tmp_path / "state"
    first = upload_folder(small_client, "p", big, keep_name=False, state_dir=state)
    opened = []
    monkeypatch.setattr(reading, "read_all", lambda *_: opened.append(1) or 0)
    again = upload_folder(small_client, "p", big, keep_name=False, state_dir=state)
    assert again.id == first.id
    assert not opened
    assert len(small_server.puts) == 5
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.iterdir())


def test_a_remembered_hash_of_a_changed_file_is_not_used(
    small_server, small_client, big, tmp_path
) -> None:
    state = tmp_path / "state"
    first = upload_folder(small_client, "p", big, keep_name=False, state_dir=state)
    status = (big / "weights.bin").stat()
    with (big / "weights.bin").open("r+b") as file:
        file.write(b"changed in place")
    os.utime(big / "weights.bin", ns=(status.st_atime_ns, status.st_mtime_ns))
    again = upload_folder(small_client, "p", big, keep_name=False, state_dir=state)
    assert again.id != first.id


def test_killed_download_fetches_only_the_rest(
    small_server, small_client, big, stored, tmp_path, start_process, watch, listing, tally
) -> None:
    target = tmp_path / "back"
    small_server.hold_after(2)
    process = start_process(DOWNLOAD, small_server.url, "-", stored.id, target, "p")
    state = tmp_path / ".back.part/state"
    assert small_server.held.wait(60)
    watch(process, lambda: len(state.read_bytes().splitlines()) == 3)
    process.kill()
    process.wait()
    assert not target.exists()
    small_server.let_go(pass_on=False)
    small_server.gets.clear()

    download_snapshot(small_client, "p", stored.id, target, progress=tally)
    assert len(small_server.gets) == 3
    assert tally.sent + tally.kept == tally.size
    assert listing(target) == listing(big)
    assert not (tmp_path / ".back.part").exists()


def test_after_a_reboot_the_rest_is_trusted_only_as_far_as_it_reads_back(
    small_server, small_client, big, stored, quick, tmp_path, listing
) -> None:
    target = tmp_path / "back"
    victim = sorted(small_server.stored())[0]
    small_server.faults.corrupt[victim] = 1000
    with pytest.raises(IntegrityError):
        download_snapshot(small_client, "p", stored.id, target, tuning=quick)
    small_server.faults.corrupt.clear()
    state = tmp_path / ".back.part/state"
    header, *numbers = state.read_text().splitlines()
    state.write_text("\n".join([header.replace('"boot": "', '"boot": "other'), *numbers, ""]))
    lost = int(numbers[0]) if numbers else 0
    with (tmp_path / ".back.part/tree/weights.bin").open("r+b") as file:
        file.seek(lost * 16 * MIB)
        file.write(bytes(4096))
    download_snapshot(small_client, "p", stored.id, target)
    assert listing(target) == listing(big)


def test_what_another_snapshot_has_left_is_thrown_away(
    small_server, small_client, big, stored, quick, tmp_path, listing
) -> None:
    small_server.faults.corrupt[sorted(small_server.stored())[0]] = 3
    with pytest.raises(IntegrityError):
        download_snapshot(small_client, "p", stored.id, tmp_path / "back", tuning=quick)
    (big / "more.txt").write_text("more")
    (big / "weights.bin").write_bytes(os.urandom(20 * MIB))
    other = upload_folder(small_client, "p", big, keep_name=False)
    download_snapshot(small_client, "p", other.id, tmp_path / "back")
    assert listing(tmp_path / "back") == listing(big)


def test_two_downloads_to_one_target_do_not_mix(
    small_server, small_client, stored, tmp_path, start_process
) -> None:
    small_server.hold_after(1)
    target = tmp_path / "back"
    process = start_process(DOWNLOAD, small_server.url, "-", stored.id, target, "p")
    assert small_server.held.wait(60)
    with pytest.raises(PeriFlowError) as caught:
        download_snapshot(small_client, "p", stored.id, target)
    assert caught.value.code == "download_running"
    small_server.let_go(pass_on=True)
    assert process.wait(60) == 0
    assert target.is_dir()


def test_a_disk_without_room_is_refused_before_anything_is_fetched(
    small_server, small_client, stored, tmp_path, monkeypatch
) -> None:
    from periflow_sdk.snapshots import download

    monkeypatch.setattr(download, "free_bytes", lambda folder: 10 * MIB)
    with pytest.raises(PeriFlowError) as caught:
        download_snapshot(small_client, "p", stored.id, tmp_path / "back")
    assert caught.value.code == "disk_full"
    assert caught.value.data["needed"] >= 65 * MIB
    assert not small_server.gets
    assert not [path for path in tmp_path.iterdir() if "back" in path.name]


FULL_DOWNLOAD = (
    """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000_000, 30_000_000))
"""
    + DOWNLOAD.replace(
        "    download_snapshot",
        "    from periflow_sdk.errors import PeriFlowError\n    try:\n        download_snapshot",
    ).rstrip()
    + """
    except PeriFlowError as error:
        sys.exit(error.code)
"""
)


def test_a_limit_on_file_sizes_leaves_no_half_file(
    small_server, stored, tmp_path, start_process
) -> None:
    process = start_process(FULL_DOWNLOAD, small_server.url, "-", stored.id, tmp_path / "back", "p")
    _, complaint = process.communicate(timeout=60)
    assert complaint.decode().strip() == "disk_full"
    assert not (tmp_path / "back").exists()


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 40 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs may be mounted here: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up_under_way_says_what_is_needed(
    small_server, small_client, tmp_path, small_disk, quick, monkeypatch, listing
) -> None:
    source = tmp_path / "many"
    source.mkdir()
    for number in range(12):
        (source / str(number)).write_bytes(os.urandom(3 * MIB))
    stored = upload_folder(small_client, "p", source, keep_name=False)
    (small_disk / "filler").write_bytes(bytes(10 * MIB))
    from periflow_sdk.snapshots import download

    monkeypatch.setattr(download, "free_bytes", lambda folder: 1 << 60)
    with pytest.raises(PeriFlowError) as caught:
        download_snapshot(small_client, "p", stored.id, small_disk / "back", tuning=quick)
    assert caught.value.code == "disk_full"
    assert 0 < caught.value.data["needed"] < 36 * MIB
    assert not (small_disk / "back").exists()
    (small_disk / "filler").unlink()
    download_snapshot(small_client, "p", stored.id, small_disk / "back")
    assert listing(small_disk / "back") == listing(source)


@pytest.mark.parametrize("is_gentle", [False, True])
def test_a_store_without_room_ends_the_upload(
    small_server, small_client, big, small_disk, is_gentle
) -> None:
    small_server.root = small_disk
    small_server.direct = True
    with pytest.raises(PeriFlowError) as caught:
        tuning = Tuning(is_gentle=is_gentle)
        upload_folder(small_client, "p", big, keep_name=False, tuning=tuning)
    assert caught.value.code == "disk_full"
    assert not list(small_disk.glob("p/??/.*"))


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


def test_killed_upload_to_a_real_server_sends_only_the_rest(
    server, tmp_path, start_process, watch, tally
) -> None:
    client = server.client()
    source = tmp_path / "source"
    source.mkdir()
    with (source / "big").open("wb") as file:
        for _ in range(16):
            file.write(os.urandom(16 * MIB))
    chunks = server.data_dir / "storage/chunks" / client.project
    arguments = (server.url, client.session.access_token, source, tmp_path / "s", client.project)
    process = start_process(UPLOAD, *arguments)
    watch(process, lambda: list(chunks.glob("??/" + "?" * 64)))
    process.kill()
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in chunks.glob("??/" + "?" * 64)}
    assert 0 < len(before) < 16
    upload_folder(client, client.project, source, keep_name=False, progress=tally)
    after = {path: path.stat().st_mtime_ns for path in chunks.glob("??/" + "?" * 64)}
    assert before.items() <= after.items()
    assert len(after) == 16
    assert tally.kept == len(before) * 16 * MIB
