"""Transfers that were killed: the next one sends or fetches only the rest."""

from __future__ import annotations

import os

import pytest

from periflow_sdk.errors import (
    IntegrityError,
    PeriFlowError,
)
from periflow_sdk.snapshots import download_snapshot, upload_folder

MIB = 1024 * 1024

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
