"""Segments: whole lines only, and removed only when every reader has read them."""

from __future__ import annotations

import os

import pytest

from periflow_sdk.agent.journal import remove_read, segments


@pytest.fixture
def write(tmp_path):
    def _write(rank: int, time: int, pid: int, data: bytes) -> str:
        folder = tmp_path / f"rank-{rank}"
        folder.mkdir(exist_ok=True)
        (folder / f"{time:020d}-{pid}.jsonl").write_bytes(data)
        return f"{rank}/{time:020d}-{pid}"

    return _write


def test_a_line_without_its_newline_is_not_read(tmp_path, write):
    write(0, 1, 7, b"one\ntwo\nthr")
    (segment,) = segments(tmp_path)
    assert segment.read_lines(0, 1024) == b"one\ntwo\n"
    assert segment.read_lines(4, 1024) == b"two\n"
    assert segment.read_lines(8, 1024) == b""


def test_a_line_longer_than_a_batch_is_read_whole(tmp_path, write):
    write(0, 1, 7, b"x" * 1000 + b"\n")
    (segment,) = segments(tmp_path)
    assert segment.read_lines(0, 100) == b"x" * 1000 + b"\n"


def test_rotated_segments_go_when_all_have_read_them(tmp_path, write):
    rotated, current = write(0, 1, 7, b"a\n"), write(0, 2, 7, b"b\n")
    ended, other = write(0, 3, 8, b"c\n"), write(1, 1, 9, b"d\n")
    everything = dict.fromkeys((rotated, current, ended, other), 2)
    assert remove_read(tmp_path, [everything, {}]) == []
    assert remove_read(tmp_path, [everything, everything]) == [rotated]
    assert [segment.key for segment in segments(tmp_path)] == [current, ended, other]


def test_links_and_odd_names_are_no_segments(tmp_path, write):
    write(0, 1, 7, b"a\n")
    (tmp_path / "secret").write_text("secret\n")
    os.symlink(tmp_path / "secret", tmp_path / "rank-0" / f"{2:020d}-7.jsonl")  # noqa: PTH211
    os.symlink(tmp_path / "rank-0", tmp_path / "rank-1")  # noqa: PTH211
    (tmp_path / "rank-0" / "notes.jsonl").write_text("x\n")
    read = [segment.read_lines(0, 100) for segment in segments(tmp_path)]
    assert read == [b"a\n", b""]
