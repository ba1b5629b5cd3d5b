"""Ctrl-C ends a transfer, whatever it waits for."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from periflow_sdk.snapshots import upload_folder
from periflow_sdk.snapshots.buffer import Cancelled
from periflow_sdk.snapshots.progress import Meter, Silence
from periflow_sdk.snapshots.wire import TransferFault, Wire

STALL_SECONDS = 600
END_SECONDS = 60
"""Far less than what a transfer waits for by itself here, far more than it takes."""

SLOW_DOWNLOAD = f"""
import sys
from pathlib import Path
from periflow_sdk.api.client import ApiClient
from periflow_sdk.snapshots import download_snapshot
from periflow_sdk.snapshots.transfer import Tuning
url, snapshot, target = sys.argv[1:]
with ApiClient(url, "-", timeout_seconds={STALL_SECONDS}) as client:
    tuning = Tuning(stall_seconds={STALL_SECONDS})
    download_snapshot(client, "p", snapshot, Path(target), tuning=tuning)
"""


@pytest.mark.parametrize("waits_for", ["chunk", "address"])
def test_an_interrupt_ends_a_download_that_waits(
    small_server, small_client, tmp_path, start_process, waits_for
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in "abcdef":
        (source / name).write_bytes(name.encode() * 9_000_000)
    stored = upload_folder(small_client, "p", source, keep_name=False)
    small_server.holds_questions = waits_for == "address"
    small_server.hold_after(0)
    process = start_process(SLOW_DOWNLOAD, small_server.url, stored.id, tmp_path / "back")
    assert small_server.held.wait(60)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=END_SECONDS)
    assert process.returncode == -signal.SIGINT, complaint.decode()
    assert complaint.decode().rstrip().endswith("KeyboardInterrupt")
    assert not (tmp_path / "back").exists()


class Getting:
    """A thread that fetches a chunk, and what came of it."""

    def __init__(self, wire: Wire, url: str) -> None:
        self._wire, self._url = wire, url
        self.raised: Exception | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            list(self._wire.get(self._url, 10, memoryview(bytearray(10)), Meter(Silence(), 10)))
        except (Cancelled, TransferFault) as error:
            self.raised = error


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """A port whose queue is full: who connects waits for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        queued = [socket.socket() for _ in range(3)]
        for one in queued:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(listening.getsockname())
        yield listening
        for one in queued:
            one.close()


def _url(listening: socket.socket, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/chunk"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_thread_that_waits_for_an_answer_ends(scheme) -> None:
    """With https that is the handshake."""
    cancel = threading.Event()
    wire = Wire(STALL_SECONDS, cancel)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        getting = Getting(wire, _url(listening, scheme))
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.recv(1)
            cancel.set()
            wire.cut()
            getting.thread.join(END_SECONDS)
    assert getting.raised is not None
    wire.close()


def test_a_thread_that_connects_ends(deaf) -> None:
    cancel = threading.Event()
    wire = Wire(STALL_SECONDS, cancel)
    getting = Getting(wire, _url(deaf))
    getting.thread.join(0.2)
    assert getting.thread.is_alive()
    cancel.set()
    wire.cut()
    getting.thread.join(END_SECONDS)
    assert getting.raised is not None
    wire.close()


def test_a_thread_that_comes_late_does_not_begin() -> None:
    cancel = threading.Event()
    wire = Wire(STALL_SECONDS, cancel)
    cancel.set()
    wire.cut()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        getting = Getting(wire, _url(listening))
        getting.thread.join(END_SECONDS)
        assert isinstance(getting.raised, Cancelled)
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()
