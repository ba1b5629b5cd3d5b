"""A disk or a limit that takes no more: said before, or at once, and nothing half is left."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from periflow_sdk.errors import (
    PeriFlowError,
)
from periflow_sdk.snapshots import download_snapshot, upload_folder
from periflow_sdk.snapshots.transfer import Tuning

MIB = 1024 * 1024

DOWNLOAD = """
import sys
from pathlib import Path
from periflow_sdk.api.client import ApiClient
from periflow_sdk.snapshots import download_snapshot
url, token, snapshot, target, project = sys.argv[1:]
with ApiClient(url, token) as client:
    download_snapshot(client, project, snapshot, Path(target))
"""


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
