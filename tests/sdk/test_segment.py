"""The journal is cut into segments."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from periflow_sdk._journal import Journal


def lines(folder: Path) -> list[list[dict[str, object]]]:
    return [
        [json.loads(line) for line in segment.read_text().splitlines()]
        for segment in sorted(folder.glob("*.jsonl"))
    ]


def test_full_segment_is_followed_by_another_and_nothing_is_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rank-3", 3, segment_bytes=100_000)
    for step in range(5_000):
        journal.metric(step, {"loss": 0.5})
    journal.finish(5_000)
    segments = lines(tmp_path / "rank-3")
    assert len(segments) > 2
    assert all(s[0]["t"] == "header" and s[0]["rank"] == 3 for s in segments)
    steps = [r["s"] for s in segments for r in s if r["t"] == "metric"]
    assert steps == list(range(5_000))
    sizes = [p.stat().st_size for p in (tmp_path / "rank-3").glob("*.jsonl")]
    assert max(sizes) < 100_000 + 17_000


def test_segments_can_be_opened_by_one_process_only(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time_ns", lambda: 5)
        first = Journal(tmp_path / "rank-0", 0)
        second = Journal(tmp_path / "rank-0", 0)
    assert first.file.error is None and second.file.error == "File exists"
    name = next((tmp_path / "rank-0").iterdir()).name
    assert name.startswith("00000000000000000005-")


def test_threads_write_whole_lines_across_segments(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rank-0", 0, segment_bytes=50_000)

    def write(thread: int) -> None:
        for i in range(2_000):
            journal.metric(i, {f"thread{thread}": i})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    journal.finish(0)
    records = [r for s in lines(tmp_path / "rank-0") for r in s if r["t"] == "metric"]
    assert len(records) == 8_000 and journal.file.lost == 0
