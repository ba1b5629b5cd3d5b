"""upload_checkpoint of large files: held by the worker until it has copied them, never torn."""

from __future__ import annotations

import os
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from waiting import wait_until

import periflow_sdk as pf
from periflow_sdk import _lease, _staging
from periflow_sdk.agent import leases
from periflow_sdk.agent.leases import LeaseKeeper, recover
from periflow_sdk.agent.ledger import Ledger

if TYPE_CHECKING:
    from conftest import Run

SIZE = _lease.LEAST_BYTES + 1000


@pytest.fixture
def keeper(job: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[LeaseKeeper]:
    """The worker's half, on a file system that shares no blocks."""
    monkeypatch.setattr(_staging, "_clone", lambda read, write: False)
    made = LeaseKeeper(job.checkpoints, job.run_dir)
    made.start()
    yield made
    made.finish()


@pytest.fixture
def slow_copy(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The worker copies only when the event is set."""
    go, copy = threading.Event(), leases.copy_bytes

    def wait(read: int, write: int) -> None:
        assert go.wait(90)
        copy(read, write)

    monkeypatch.setattr(leases, "copy_bytes", wait)
    yield go
    go.set()


def staged(job: Run, upload: pf.Upload) -> Path:
    return job.checkpoints / ".periflow" / upload.id / "model.bin"


def is_held(job: Run) -> bool:
    (record,) = job.records(kind="checkpoint")[-1:]
    return "inode" in record["files"][0]


def test_file_that_is_overwritten_in_place_is_copied_as_it_was(
    job: Run, keeper: LeaseKeeper, slow_copy: threading.Event
) -> None:
    pf.init()
    path = job.checkpoints / "model.bin"
    path.write_bytes(b"1" * SIZE)
    upload = pf.upload_checkpoint()
    assert upload.error is None and is_held(job) and keeper.is_pending(upload.id)
    writer = threading.Thread(target=path.write_bytes, args=[b"2" * SIZE])
    writer.start()
    writer.join(0.2)
    assert writer.is_alive() and path.read_bytes() == b"1" * SIZE  # its open() waits
    slow_copy.set()
    writer.join(90)
    wait_until(lambda: not keeper.is_pending(upload.id))
    assert staged(job, upload).read_bytes() == b"1" * SIZE
    assert path.read_bytes() == b"2" * SIZE
    assert (
        staged(job, upload).stat().st_mtime_ns
        == job.records(kind="checkpoint")[0]["files"][0]["mtime_ns"]
    )


def test_file_that_is_rotated_away_or_replaced_is_copied_all_the_same(
    job: Run, keeper: LeaseKeeper, slow_copy: threading.Event
) -> None:
    pf.init()
    path = job.checkpoints / "model.bin"
    for change in (path.unlink, lambda: (job.folder / "new").rename(path)):
        path.write_bytes(b"1" * SIZE)
        upload = pf.upload_checkpoint(path)
        assert is_held(job)
        (job.folder / "new").write_bytes(b"2" * SIZE)
        change()
        slow_copy.set()
        wait_until(lambda upload=upload: not keeper.is_pending(upload.id))  # type: ignore[misc]
        assert staged(job, upload).read_bytes() == b"1" * SIZE
        slow_copy.clear()


def test_file_that_is_open_for_writing_is_copied_by_training(job: Run, keeper: LeaseKeeper) -> None:
    pf.init()
    path = job.checkpoints / "model.bin"
    with path.open("wb") as file:
        file.write(b"1" * SIZE)
        file.flush()
        upload = pf.upload_checkpoint()
        assert upload.error is None and not is_held(job)
        assert staged(job, upload).stat().st_size == SIZE


def test_training_does_not_wait_for_a_worker_that_does_not_answer(
    job: Run, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()
    monkeypatch.setattr(keeper, "_answer", lambda rank: is_over.wait(60))
    pf.init()
    (job.checkpoints / "model.bin").write_bytes(b"1" * SIZE)
    started = time.monotonic()
    upload = pf.upload_checkpoint()
    took = time.monotonic() - started
    is_over.set()
    assert took < 30 and not is_held(job)
    assert staged(job, upload).stat().st_size == SIZE


def test_killed_training_leaves_the_worker_with_its_files(job: Run, keeper: LeaseKeeper) -> None:
    (job.checkpoints / "model.bin").write_bytes(b"1" * SIZE)
    code = textwrap.dedent("""
        import os, signal, periflow_sdk as pf
        from periflow_sdk import _staging
        _staging._clone = lambda read, write: False
        pf.init()
        pf.upload_checkpoint()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert job.script(code, check=False).returncode == -9
    (record,) = job.records(kind="checkpoint")
    assert is_held(job)
    wait_until(lambda: not keeper.is_pending(record["id"]))
    copy = job.checkpoints / ".periflow" / record["id"] / "model.bin"
    assert copy.read_bytes() == b"1" * SIZE


def test_after_a_killed_worker_only_a_file_that_has_not_changed_is_copied(
    job: Run, keeper: LeaseKeeper
) -> None:
    pf.init()
    path = job.checkpoints / "model.bin"
    path.write_bytes(b"1" * SIZE)
    upload = pf.upload_checkpoint()
    wait_until(lambda: not keeper.is_pending(upload.id))
    ledger = Ledger()
    (segment,) = job.segments()
    ledger.read(0, segment.read_bytes())
    ((part,),) = (gathering.parts for gathering in ledger.gatherings)
    staged(job, upload).unlink()  # as if the worker had died in the midst of it
    recover(job.checkpoints, part)
    assert staged(job, upload).read_bytes() == b"1" * SIZE
    staged(job, upload).unlink()
    path.write_bytes(b"2" * SIZE)
    with pytest.raises(OSError, match="has changed"):
        recover(job.checkpoints, part)
    assert not staged(job, upload).exists()


def test_held_file_is_not_taken_for_new(job: Run, keeper: LeaseKeeper) -> None:
    pf.init()
    path = job.checkpoints / "model.bin"
    path.write_bytes(b"1" * SIZE)
    upload = pf.upload_checkpoint()
    wait_until(lambda: not keeper.is_pending(upload.id))
    assert pf.upload_checkpoint().size == 0
    path.write_bytes(b"2" * SIZE)
    assert pf.upload_checkpoint().size == SIZE


def test_linked_and_small_files_are_copied_by_training(job: Run, keeper: LeaseKeeper) -> None:
    pf.init()
    (job.folder / "elsewhere.bin").write_bytes(b"1" * SIZE)
    (job.checkpoints / "model.bin").symlink_to(job.folder / "elsewhere.bin")
    assert staged(job, pf.upload_checkpoint()).stat().st_size == SIZE and not is_held(job)
    (job.checkpoints / "small.bin").write_bytes(os.urandom(10))
    assert pf.upload_checkpoint().size == 10 and not is_held(job)
