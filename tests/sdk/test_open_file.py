"""Files that somebody still has open for writing when they are uploaded."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import periflow_sdk as pf
from periflow_sdk import _staging

if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")

# Writes half a file, stands still for longer than the kernel's clock ticks, writes the rest.
SLOW_WRITER = """
import sys, time
with open(sys.argv[1], "wb", buffering=0) as file:
    file.write(b"a" * 1000)
    print("half", flush=True)
    time.sleep(0.3)
    file.write(b"b" * 1000)
"""


def staged(job: Run, name: str) -> bytes:
    (upload,) = job.records(kind="checkpoint")[-1:]
    return (job.checkpoints / upload["staged"] / name).read_bytes()


def test_file_that_another_process_is_writing_is_taken_whole(job: Run) -> None:
    pf.init()
    path = job.checkpoints / "checkpoint.pt"
    writer = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, str(path)], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None and writer.stdout.readline() == b"half\n"
    assert pf.upload_checkpoint().error is None
    assert staged(job, "checkpoint.pt") == b"a" * 1000 + b"b" * 1000
    assert writer.wait(90) == 0
    writer.stdout.close()


def test_log_that_stays_open_is_waited_for_once(job: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pf.init()
    with (job.checkpoints / "train.log").open("w", buffering=1) as log:
        log.write("one\n")
        assert pf.upload_checkpoint().error is None
        log.write("two\n")
        monkeypatch.setattr(_staging, "_CLOSED_SECONDS", 60)
        start = time.monotonic()
        assert pf.upload_checkpoint().error is None
        assert time.monotonic() - start < 30
        assert staged(job, "train.log") == b"one\ntwo\n"
