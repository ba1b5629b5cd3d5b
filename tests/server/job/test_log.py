"""Logs in, lines out."""

from __future__ import annotations

import threading
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from periflow_sdk.errors import ConflictError, InvalidRequestError


def read_all(desk: Any, number: int, limit: int = 1000) -> list[str]:
    """Every line, page by page, until the log says that it is complete."""
    texts: list[str] = []
    cursor = None
    while True:
        page = desk.log(number, cursor=cursor, limit=limit, wait_seconds=5)
        texts += [line.text for line in page.lines]
        cursor = page.cursor
        if page.complete:
            return texts
        assert page.lines, "a page was empty before the log was complete"


def test_long_log_comes_back_whole_in_pages(desk: Any) -> None:
    job, agent = desk.running()
    lines = [f"line {n} ünï {'x' * (n % 50)}" for n in range(100_000)]
    data = "".join(f"{line}\n" for line in lines).encode()
    for start in range(0, len(data), 99_991):  # cuts inside lines and inside characters
        agent.print(data[start : start + 99_991])
    agent.finish()
    assert read_all(desk, job.number, limit=10_000) == lines
    assert desk.texts(job.number, tail=True, limit=3) == lines[-3:]
    assert desk.texts(job.number, tail=True, limit=5000) == lines[-5000:]
    stored = list((desk.server.data_dir / "storage" / "logs").rglob("*.z"))
    assert stored and sum(path.stat().st_size for path in stored) < len(data) / 2


def test_offset_that_is_not_the_next_is_refused_with_the_one_wanted(desk: Any) -> None:
    job, agent = desk.running()
    agent.print("one\n")
    for offset in (0, 3, 5):
        with pytest.raises(ConflictError) as refused:
            agent.api.ship_log(offset, b"two\n")
        assert (refused.value.code, refused.value.data["offset"]) == ("offset_mismatch", 4)
    agent.print("two\n")
    assert desk.texts(job.number) == ["one", "two"]


def test_unfinished_line_waits_for_its_end_or_the_jobs(desk: Any) -> None:
    job, agent = desk.running()
    agent.print(b"whole\nhal" + "ü".encode()[:1])
    first = desk.log(job.number)
    assert [line.text for line in first.lines] == ["whole"]
    assert desk.texts(job.number, tail=True) == ["whole"]
    agent.print("ü".encode()[1:] + b"f\r\nlast without newline")
    assert desk.texts(job.number, cursor=first.cursor) == ["halüf"]
    agent.finish()
    page = desk.log(job.number, cursor=first.cursor)
    assert [line.text for line in page.lines] == ["halüf", "last without newline"]
    assert page.complete
    assert desk.texts(job.number, tail=True, limit=2) == ["halüf", "last without newline"]


def test_bytes_that_are_no_text_are_replaced(desk: Any) -> None:
    job, agent = desk.running()
    agent.print(b"a\xffb\n\x00\n\n")
    assert desk.texts(job.number) == ["a\ufffdb", "\x00", ""]


def test_endless_line_is_given_in_pieces(desk: Any) -> None:
    job, agent = desk.running()
    text = "ä" * 100_000  # 200,000 bytes without a newline
    agent.print(text)
    pieces = desk.texts(job.number)
    assert len(pieces) == 3
    agent.print("\nnext\n")
    pieces = desk.texts(job.number)
    assert "".join(pieces[:-1]) == text
    assert all(len(piece.encode()) <= 64 * 1024 for piece in pieces)
    assert pieces[-1] == "next"


def test_reader_that_waits_gets_a_line_as_soon_as_it_is_there(desk: Any) -> None:
    job, agent = desk.running()
    cursor = desk.log(job.number).cursor
    threading.Timer(0.5, lambda: agent.print("here\n")).start()
    began = time.monotonic()
    page = desk.log(job.number, cursor=cursor, wait_seconds=20)
    assert [line.text for line in page.lines] == ["here"]
    assert time.monotonic() - began < 18
    assert (page.complete, page.status) == (False, "running")


def test_reader_that_waits_is_told_of_the_end(desk: Any) -> None:
    job, agent = desk.running()
    cursor = desk.log(job.number).cursor
    threading.Timer(0.5, agent.finish).start()
    began = time.monotonic()
    page = desk.log(job.number, cursor=cursor, wait_seconds=20)
    assert (page.lines, page.complete, page.status) == ([], True, "success")
    assert time.monotonic() - began < 18


def test_wait_without_news_ends_after_its_time(desk: Any) -> None:
    job, _ = desk.running()
    page = desk.log(job.number, wait_seconds=0.3)
    assert (page.lines, page.complete) == ([], False)


def test_attempts_follow_each_other_in_one_log(desk: Any) -> None:
    job, agent = desk.running(restart={"backoff_seconds": 0})
    agent.print("first\nbroken off")
    page = desk.log(job.number)
    agent.finish("lost", None)
    second = desk.agent(job, attempt=2)
    second.print("second\n")
    assert desk.texts(job.number, cursor=page.cursor) == ["broken off", "second"]
    assert desk.texts(job.number, tail=True, limit=2) == ["broken off", "second"]
    second.finish()
    lines = desk.log(job.number).lines
    assert [(line.attempt, line.text) for line in lines] == [
        (1, "first"),
        (1, "broken off"),
        (2, "second"),
    ]


def test_lines_have_the_time_of_their_arrival(desk: Any) -> None:
    job, agent = desk.running()
    before = datetime.now(UTC)
    agent.print("one\n")
    agent.print("two\n")
    times = [line.time for line in desk.log(job.number).lines]
    assert before <= times[0] < times[1] <= datetime.now(UTC)


def test_log_of_a_job_that_never_ran_is_complete_and_empty(desk: Any) -> None:
    desk.running(num_devices=desk.quota())
    waiting = desk.submit(num_devices=desk.quota())
    assert not desk.log(waiting.number).complete
    desk.api.stop_job(desk.project, waiting.number)
    page = desk.log(waiting.number, wait_seconds=10)
    assert (page.lines, page.complete) == ([], True)


def test_cursor_that_is_none_is_refused(desk: Any) -> None:
    job, _ = desk.running()
    documents = (
        "[]",
        "[1,[1]]",
        "[1,[[0,1e400]]]",
        "[Infinity,[]]",
        f"[1,[[0,{2**63}]]]",
        "[" * 700,
    )
    made = [urlsafe_b64encode(text.encode()).decode().rstrip("=") for text in documents]
    for cursor in ("x", "ÿ", *made):
        with pytest.raises(InvalidRequestError):
            desk.log(job.number, cursor=cursor)
