"""Uploads and downloads that are cut off: what is there stays, what is missing comes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest


def _write_random(path: Path, megabytes: int) -> None:
    """A file no two chunks of which are equal."""
    noise = os.urandom(999_992)
    with path.open("wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(8, "big") + noise)


def _chunks(stranger) -> dict[Path, int]:
    """The store's chunks, each with the time it was written."""
    folder = stranger.home / "server/storage/chunks"
    found = {}
    for path in folder.glob("*/*/*"):
        if len(path.name) == 64:
            found[path] = path.stat().st_mtime_ns
    return found


def test_killed_upload_sends_only_the_rest(stranger) -> None:
    data = stranger.folder / "data"
    data.mkdir()
    _write_random(data / "big.bin", 600)
    upload = stranger.start("dataset", "upload", "-n", "big", "-p", f"{data}/")
    while len(_chunks(stranger)) < 3:  # more time between two looks, and all might be there
        assert upload.poll() is None, upload.communicate()
        time.sleep(0.01)
    upload.kill()
    upload.wait()
    before = _chunks(stranger)
    assert len(before) < 36, "the upload was over before it was killed"
    assert stranger.try_pf("dataset", "view", "big").returncode == 3

    stranger.pf("dataset", "upload", "-n", "big", "-p", f"{data}/")

    after = _chunks(stranger)
    assert before.items() <= after.items()
    assert stranger.json("dataset", "view", "big")["size"] == 600_000_000


@pytest.fixture(scope="module")
def checkpoint(settled):
    """A job whose checkpoint is a file of 300 MB."""
    folder = settled.folder / "large"
    folder.mkdir()
    _write_random(folder / "weights.bin", 300)
    (folder / "main.py").write_text(
        "import os, shutil, periflow_sdk as pf\n"
        "pf.init(total_train_steps=1)\n"
        "with pf.train_step():\n    pass\n"
        "shutil.copy('/workspace/large/weights.bin', os.environ['CKPT_DIR'])\n"
        "pf.upload_checkpoint()\n"
    )
    template = settled.folder / "large.yml"
    template.write_text(
        "vm: local-cpu\nnum_devices: 1\njob_setting:\n  type: custom\n  docker:\n"
        "    image: none\n    command: python /workspace/large/main.py\n"
        "checkpoint:\n  output_checkpoint_dir: /workspace/ckpt\n"
    )
    number = settled.json("job", "run", "-f", template, "-d", folder)["number"]
    job = settled.wait_for_job(number)
    assert job["status"] == "success", job
    return job["checkpoints"][0]["id"], folder / "weights.bin"


def test_killed_download_goes_on_and_is_whole(settled, checkpoint) -> None:
    checkpoint_id, original = checkpoint
    target = settled.folder / "mine"
    download = settled.start("checkpoint", "download", checkpoint_id, "-d", target)
    settled.wait_until(
        lambda: download.poll() is not None or list(settled.folder.glob(".mine*/**/*"))
    )
    download.send_signal(signal.SIGKILL)
    download.wait()
    assert not (target / "weights.bin").exists() or download.returncode == 0

    settled.pf("checkpoint", "download", checkpoint_id, "-d", target)

    assert (target / "weights.bin").read_bytes() == original.read_bytes()
    assert not list(settled.folder.glob(".mine*"))


def test_a_corrupted_chunk_is_refused(settled, checkpoint) -> None:
    checkpoint_id, _ = checkpoint
    target = settled.folder / "refused"
    largest = max(_chunks(settled), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    largest.chmod(0o600)
    with largest.open("r+b") as file:
        file.seek(1000)
        file.write(b"garbage")
    try:
        done = settled.try_pf("checkpoint", "download", checkpoint_id, "-d", target)
    finally:
        largest.write_bytes(whole)
    assert done.returncode == 1
    assert largest.name[:12] in done.stderr
    assert not target.exists()


def test_a_full_disk_is_one_clear_error_and_no_half_file(settled, checkpoint) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    checkpoint_id, _ = checkpoint
    small = settled.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", small], check=True)
    try:
        done = settled.try_pf("checkpoint", "download", checkpoint_id, "-d", small / "mine")
        assert done.returncode == 1
        assert "300.0 MB" in done.stderr and "Traceback" not in done.stderr
        assert not (small / "mine").exists()
    finally:
        subprocess.run(["umount", "-l", small], check=True)
