"""Uploads beside a training: to a store on this machine by one thread, past the page cache."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path

import pytest

from periflow_sdk.snapshots import download_snapshot, upload_folder
from periflow_sdk.snapshots import upload as upload_module
from periflow_sdk.snapshots.store import write_chunk
from periflow_sdk.snapshots.transfer import Tuning

MIB = 1024 * 1024
GENTLE = Tuning(is_gentle=True)


def is_cached(path: Path) -> bool:
    """Whether the start of a file could be read without the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(descriptor, [bytearray(16)], 0, os.RWF_NOWAIT) > 0
    except OSError as error:
        assert error.errno == errno.EAGAIN
        return False
    finally:
        os.close(descriptor)


def keeps_direct_writes_cached(folder: Path) -> bool:
    """What the file system itself makes of one: one in memory has nothing but its cache."""
    page = mmap.mmap(-1, 4096)
    try:
        descriptor = os.open(folder / "probe", os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600)
    except OSError:
        return True
    os.write(descriptor, page)
    os.close(descriptor)
    return is_cached(folder / "probe")


def test_whatever_goes_up_gently_comes_down_again(place, tmp_path, listing) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for size in (0, 1, 4095, 4096, 4097, 5 * MIB + 1, 16 * MIB, 35 * MIB + 7):
        (source / f"{size}.bin").write_bytes(os.urandom(size))
    snapshot = upload_folder(place.client, place.project, source, keep_name=False, tuning=GENTLE)
    download_snapshot(place.client, place.project, snapshot.id, tmp_path / "back")
    assert listing(tmp_path / "back") == listing(source)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 3 * MIB + 5])
@pytest.mark.parametrize("offset", [0, 1])
def test_a_chunk_is_whole_wherever_it_lies_in_memory_and_on_any_disk(
    tmp_path, size, offset
) -> None:
    body = os.urandom(size + offset)
    for folder in (tmp_path, Path("/dev/shm")):
        path = folder / f"periflow-chunk-{os.getpid()}-{size}-{offset}"
        try:
            write_chunk(path, memoryview(body)[offset:], is_gentle=True)
            assert path.read_bytes() == body[offset:]
        finally:
            path.unlink(missing_ok=True)


def test_a_local_store_gets_one_chunk_at_a_time_and_none_in_the_page_cache(
    server, tmp_path, monkeypatch
) -> None:
    writers = set()

    def write(path: Path, body: memoryview, *, is_gentle: bool) -> None:
        writers.add(threading.current_thread())
        write_chunk(path, body, is_gentle=is_gentle)

    monkeypatch.setattr(upload_module, "write_chunk", write)
    client = server.client()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/weights.bin").write_bytes(os.urandom(64 * MIB))
    upload_folder(client, client.project, tmp_path / "source", keep_name=False, tuning=GENTLE)
    assert writers == {threading.current_thread()}
    chunks = (server.data_dir / "storage/chunks" / client.project).glob("??/*")
    sizes = {path.stat().st_size: is_cached(path) for path in chunks}
    assert sizes == {16 * MIB: keeps_direct_writes_cached(server.data_dir)}
