"""Records are in the file, whole and in order, whoever looks and whatever ends the process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from periflow_sdk._mapped_file import MappedFile
from periflow_sdk.agent.journal import Segment

HEADER = b"header\n"


class Segments:
    """Opens one file after another, each with a header."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[Path] = []

    def open_next(self) -> int:
        path = self.folder / f"{len(self.opened)}.jsonl"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.write(fd, HEADER)
        self.opened.append(path)
        return fd

    def read(self, number: int = -1) -> bytes:
        """What the agent would read."""
        segment = Segment(0, "0", 1, self.opened[number])
        data = b""
        while lines := segment.read_lines(len(data), 10_000):
            data += lines
        return data


@pytest.fixture
def segments(tmp_path: Path) -> Segments:
    return Segments(tmp_path)


def test_reader_sees_each_record_as_soon_as_append_returns(segments: Segments) -> None:
    file = MappedFile(segments.open_next, 1 << 30)
    expected = HEADER
    for number in range(5_000):
        line = b"%d %s\n" % (number, b"x" * (number % 90))
        assert file.append(line)
        expected += line
        if number % 500 == 0:
            assert segments.read() == expected
    assert segments.read() == expected
    file.close()
    assert segments.opened[0].read_bytes() == expected
    assert not file.append(b"late\n") and file.lost == 1


def test_record_larger_than_the_window_is_whole(segments: Segments) -> None:
    file = MappedFile(segments.open_next, 1 << 30)
    lines = [b"a\n", b"b" * 1_000_000 + b"\n", b"c\n"]
    assert all(file.append(line) for line in lines)
    assert segments.read() == HEADER + b"".join(lines)


def test_threads_get_places_of_their_own(segments: Segments) -> None:
    file = MappedFile(segments.open_next, 200_000)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def write(thread: int) -> None:
        for number in range(20_000):
            file.append(b"%d %d\n" % (thread, number))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    file.close()
    lines = [line for n in range(len(segments.opened)) for line in segments.read(n).splitlines()]
    found = [tuple(map(int, line.split())) for line in lines if line + b"\n" != HEADER]
    assert len(segments.opened) > 1 and file.lost == 0
    for thread in range(4):
        assert [number for who, number in found if who == thread] == list(range(20_000))


def test_killed_process_leaves_all_records_and_reserved_bytes_are_no_record(
    tmp_path: Path,
) -> None:
    script = textwrap.dedent("""
        import os, signal, sys
        from periflow_sdk._mapped_file import MappedFile
        file = MappedFile(lambda: os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), 1 << 30)
        for number in range(12_345):
            assert file.append(b"%d\\n" % number)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    path = tmp_path / "0.jsonl"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    expected = b"".join(b"%d\n" % number for number in range(12_345))
    assert path.read_bytes().rstrip(b"\0") == expected
    assert Segment(0, "0", 1, path).read_lines(0, 1 << 20) == expected
    assert Segment(0, "0", 1, path).read_lines(len(expected), 1 << 20) == b""


def test_half_copied_record_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    path.write_bytes(b"one\ntw\0\nthree\n" + bytes(5_000))
    assert Segment(0, "0", 1, path).read_lines(0, 1 << 20) == b"one\n"
    path.write_bytes(b"one\ntwo" + bytes(5_000))
    assert Segment(0, "0", 1, path).read_lines(0, 6) == b"one\n"
    assert Segment(0, "0", 1, path).read_lines(4, 2) == b""


def test_handler_that_records_meets_no_half_turned_segment(segments: Segments) -> None:
    handlers: list[Callable[[], object]] = []

    def open_next() -> int:
        for handler in handlers:
            handler()
        return segments.open_next()

    file = MappedFile(open_next, 5_000)
    handlers.append(lambda: file.append(b"from a handler\n"))
    for number in range(10_000):
        file.append(b"%d\n" % number)
    file.close()
    lines = [line for n in range(len(segments.opened)) for line in segments.read(n).splitlines()]
    assert [line for line in lines if line != b"header"] == [b"%d" % n for n in range(10_000)]
    assert file.lost == len(segments.opened) - 1 > 0
