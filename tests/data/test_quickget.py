"""The quick way to an object: its bytes, or nothing and the other client is asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from periflow_sdk.data import quickget
from periflow_sdk.data.quickget import QuickGet, Wanted

HEAD = b"HTTP/1.1 206 Partial Content\r\n"
PLAIN = HEAD + b"ETag: x\r\ncontent-length:5\r\n\r\nhello"


def asked(
    answers: list[bytes], ask: Callable[[QuickGet], Awaitable[None]]
) -> tuple[list[list[bytes]], QuickGet]:
    """Runs `ask` against a server that gives these answers, in their order.

    Returns:
        The requests of each connection, and what has asked.
    """
    connections: list[list[bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests: list[bytes] = []
        connections.append(requests)
        try:
            while answers:
                requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = answers.pop(0)
                writer.write(answer[:-3])
                await asyncio.sleep(0)
                writer.write(answer[-3:])
                if b"HANG" in answer:
                    await reader.read()
                if not answer.startswith(HEAD) or b"close" in answer:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    async def run() -> QuickGet:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        quick = QuickGet(f"http://{host}:{port}")
        await ask(quick)
        server.close()
        return quick

    return connections, asyncio.run(run())


async def hello(quick: QuickGet, many: int = 1) -> list[bool]:
    """Asks for the five bytes so many times at once; whether each came."""
    contents = await quick.get(
        [Wanted("/bucket/a%20b", 'If-Match: "x"\r\n', start, start + 5) for start in range(many)]
    )
    assert all(content is None or bytes(content) == b"hello" for content in contents)
    return [content is not None for content in contents]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def test_bytes_come_over_a_connection_that_is_kept() -> None:
    async def ask(quick: QuickGet) -> None:
        assert await hello(quick) + await hello(quick) + await hello(quick)

    closing = PLAIN.replace(b"ETag: x", b"Connection: close")
    connections, _ = asked([PLAIN, closing, PLAIN], ask)
    assert [len(requests) for requests in connections] == [2, 1]
    request = connections[0][1].decode()
    assert request.startswith("GET /bucket/a%20b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert 'If-Match: "x"\r\nRange: bytes=0-4\r\n' in request


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        HEAD + b"Content-Length: 4\r\n\r\nhell",
        HEAD + b"Content-Length: 5\r\n\r\nhello, and more",
        HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\nhel",
        HEAD + b"Content-Length: 5\r\n\r\nHANG",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"x" * (quickget._HEADER_BYTES + 10),
    ],
    ids=lambda answer: answer[-60:].decode().split("\r\n", 1)[0][:20] or "long",
)
def test_another_answer_is_none(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickget, "_PATIENCE_SECONDS", 0.2 if b"HANG" in answer else 60)

    async def ask(quick: QuickGet) -> None:
        assert await hello(quick) == [False]
        assert await hello(quick) == [True]

    asked([answer, PLAIN], ask)


def test_after_failures_one_behind_the_other_it_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(quickget, "time", SimpleNamespace(monotonic=lambda: now))

    async def ask(quick: QuickGet) -> None:
        nonlocal now
        for _ in range(quickget._FAILURES):
            assert quick.is_usable
            assert await hello(quick) == [False]
        assert not quick.is_usable
        now += quickget._REST_SECONDS
        assert quick.is_usable and await hello(quick) == [False] and not quick.is_usable
        now += quickget._REST_SECONDS
        assert await hello(quick) == [True]
        assert await hello(quick) == [False] and quick.is_usable

    refused = b"HTTP/1.1 503 Slow Down\r\n\r\n"
    asked([*[refused] * (quickget._FAILURES + 1), PLAIN, refused], ask)


def test_where_proxies_are_set_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")

    async def ask(quick: QuickGet) -> None:
        assert await hello(quick) == [False] and not quick.is_usable

    connections, _ = asked([PLAIN], ask)
    assert connections == []


def test_many_share_a_few_lanes_and_each_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickget, "_LANES", 3)

    async def ask(quick: QuickGet) -> None:
        assert await hello(quick, 20) == [True] * 20
        assert await hello(quick, 20) == [True] * 20

    connections, _ = asked([PLAIN] * 40, ask)
    assert len(connections) == 3 and sum(map(len, connections)) == 40


def test_lanes_that_end_are_replaced_and_a_store_that_fails_is_left_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quickget, "_LANES", 2)
    closing = PLAIN.replace(b"ETag: x", b"Connection: close")
    refused = b"HTTP/1.1 503 Slow Down\r\n\r\n"

    async def ask(quick: QuickGet) -> None:
        assert sum(await hello(quick, 20)) == 17
        assert not any(await hello(quick, 1000)) and not quick.is_usable

    answers = [closing, *[refused] * 3, *[PLAIN] * 16, *[refused] * 1000]
    connections, _ = asked(answers, ask)
    assert sum(map(len, connections)) < 40


def test_store_that_nobody_listens_for_is_left_at_once() -> None:
    async def ask() -> None:
        quick = QuickGet("http://127.0.0.1:1")
        assert not any(await hello(quick, 1000)) and not quick.is_usable

    asyncio.run(ask())
