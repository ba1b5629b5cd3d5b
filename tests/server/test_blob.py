"""Signed URLs of chunks: what they allow, and what they refuse."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import pytest
from blake3 import blake3

from periflow_sdk.api import models as m
from periflow_server.storage.signing import ChunkGrant, UrlSigner

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

MIB = 1 << 20


@pytest.fixture(scope="module")
def owner(server: ServerProcess) -> Client:
    return server.client()


def put_url(client: Client, ref: m.ChunkRef) -> str:
    (location,) = client.missing_chunks(client.project, [ref])
    return location.url


def get_url(client: Client, ref: m.ChunkRef) -> str:
    (location,) = client.chunk_sources(client.project, [ref])
    return location.url


def changed(url: str, **query: str) -> str:
    parts = urlsplit(url)
    fields = {**dict(parse_qsl(parts.query)), **query}
    return urlunsplit(parts._replace(query=urlencode(fields)))


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_chunk_comes_back_bit_for_bit(owner: Client, chunks: Any) -> None:
    data = os.urandom(5 * MIB + 17)
    ref = chunks.put(owner, data)
    answer = httpx.get(get_url(owner, ref))
    assert answer.content == data
    assert answer.headers["content-length"] == str(len(data))


def test_bytes_of_another_hash_are_refused_and_leave_nothing(
    owner: Client, server: ServerProcess, chunks: Any
) -> None:
    ref = chunks.ref(b"what was promised")
    url = put_url(owner, ref)
    answer = httpx.put(url, content=b"what was sent 123")
    assert refusal(answer) == (422, "wrong_hash")
    assert owner.missing_chunks(owner.project, [ref])
    folder = server.data_dir / "storage" / "chunks" / owner.project
    assert not [path for path in folder.rglob("*") if ref.hash in path.name]


@pytest.mark.parametrize("sent", [b"short", b"longer than was promised"])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_bytes_of_another_size_are_refused(
    owner: Client, chunks: Any, sent: bytes, is_streamed: bool
) -> None:
    url = put_url(owner, chunks.ref(b"what was asked"))

    def stream() -> Iterator[bytes]:
        yield sent

    answer = httpx.put(url, content=stream() if is_streamed else sent)
    assert refusal(answer) == (422, "wrong_size")


def test_second_put_keeps_the_chunk_that_is_there(
    owner: Client, server: ServerProcess, chunks: Any
) -> None:
    data = os.urandom(1000)
    ref = chunks.ref(data)
    url = put_url(owner, ref)
    assert httpx.put(url, content=data).status_code == 201
    folder = server.data_dir / "storage" / "chunks" / owner.project
    (path,) = folder.rglob(ref.hash)
    before = path.stat()
    assert httpx.put(url, content=data).status_code == 200
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_truncated_chunk_of_the_store_is_asked_for_again(
    owner: Client, server: ServerProcess, chunks: Any
) -> None:
    data = os.urandom(1000)
    ref = chunks.put(owner, data)
    (path,) = (server.data_dir / "storage" / "chunks" / owner.project).rglob(ref.hash)
    path.write_bytes(data[:10])
    assert chunks.put(owner, data) == ref
    assert httpx.get(get_url(owner, ref)).content == data


@pytest.mark.parametrize(
    "change",
    [{"size": "999"}, {"expires": "99999999999"}, {"signature": "0" * 64}, {"signature": ""}],
)
def test_tampered_url_is_refused(owner: Client, chunks: Any, change: dict[str, str]) -> None:
    ref = chunks.put(owner, b"secret of the project")
    assert refusal(httpx.get(changed(get_url(owner, ref), **change))) == (403, "url_refused")
    put = changed(put_url(owner, chunks.ref(b"something new")), **change)
    assert refusal(httpx.put(put, content=b"something new")) == (403, "url_refused")


def test_url_of_one_chunk_opens_no_other_and_no_other_project(
    owner: Client, server: ServerProcess, chunks: Any
) -> None:
    other = server.client()
    mine, theirs = chunks.put(owner, b"mine"), chunks.put(other, b"them")
    url = get_url(owner, mine)
    assert refusal(httpx.get(url.replace(mine.hash, theirs.hash)))[0] == 403
    assert refusal(httpx.get(url.replace(owner.project, other.project)))[0] == 403


def test_url_for_reading_does_not_write_and_the_other_way_round(owner: Client, chunks: Any) -> None:
    data = os.urandom(100)
    ref = chunks.ref(data)
    url = put_url(owner, ref)
    assert httpx.put(url, content=data).status_code == 201
    assert refusal(httpx.get(url))[0] == 403
    assert refusal(httpx.put(get_url(owner, ref), content=data))[0] == 403


def test_expired_url_is_refused(owner: Client, server: ServerProcess, chunks: Any) -> None:
    ref = chunks.put(owner, b"for a while")
    signer = UrlSigner(bytes.fromhex((server.data_dir / "key").read_text()))
    now = int(time.time())
    for expires, status in ((now + 60, 200), (now - 1, 403)):
        grant = ChunkGrant("GET", owner.project, ref.hash, ref.size, expires)
        assert httpx.get(signer.url(server.url, grant)).status_code == status


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=1048570-1048590", 1048570, 1048590),
        ("bytes=3000000-", 3_000_000, 3 * MIB - 1),
        ("bytes=-5", 3 * MIB - 5, 3 * MIB - 1),
        ("bytes=10-99999999", 10, 3 * MIB - 1),
    ],
)
def test_ranges_are_honoured(
    owner: Client, chunks: Any, header: str, first: int, last: int
) -> None:
    data = blake3(b"ranges").digest(length=3 * MIB)
    ref = chunks.put(owner, data)
    answer = httpx.get(get_url(owner, ref), headers={"Range": header})
    assert answer.status_code == 206
    assert answer.content == data[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(data)}"


@pytest.mark.parametrize("header", ["bytes=500-", "bytes=9-2", "lines=1-2", "bytes=-"])
def test_range_that_is_not_there_is_refused(owner: Client, chunks: Any, header: str) -> None:
    ref = chunks.put(owner, b"x" * 100)
    answer = httpx.get(get_url(owner, ref), headers={"Range": header})
    assert refusal(answer) == (416, "range_not_satisfiable")


def test_chunk_known_elsewhere_must_be_sent_to_this_project_too(
    owner: Client, server: ServerProcess, chunks: Any
) -> None:
    ref = chunks.put(owner, b"known to the owner")
    other = server.client()
    assert [location.hash for location in other.missing_chunks(other.project, [ref])] == [ref.hash]
