"""What plain sockets can do: no hash, no check, nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import mmap
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from files import files_of, target_of

PART_BYTES = 16 * 1024 * 1024
# Not 1 MiB: a virtual machine may have lent back such large pieces of memory, and gets them anew.
PIECE_BYTES = 512 * 1024
Work = Callable[[], object]
Answer = TypeVar("Answer")
_kept = threading.local()


def raw(way: str, folder: Path, addresses: Sequence[str]) -> Work:
    """Four plain sockets that read and send, or receive and write; no hash, no check.

    A large file goes in pieces of 16 MiB, one an address, as ours cuts it; of many small ones each
    address is for a piece that holds a share of them, one after the other.
    """
    files, layout = files_of(folder), _layout()
    if way == "up" and len(files) == 1:
        return lambda: _by_four(
            lambda number, url: _send_part(files[0], number * PART_BYTES, url), addresses
        )
    if way == "up":
        return lambda: _by_four(
            lambda number, url: _send(url, _joined(files[number :: len(addresses)])), addresses
        )
    if len(layout) == 1:
        ((name, size),) = layout
        return lambda: _fetch_parts(target_of(folder, name), size, addresses)
    return lambda: _by_four(
        lambda number, url: _unpack(folder, layout[number :: len(addresses)], url), addresses
    )


def multipart(way: str, folder: Path, addresses: Sequence[str]) -> Work:
    """One large file as one object: four sockets send its parts from the page cache, and receive
    four ranges of it into the mapped target.

    Args:
        addresses: Up, what completes the object, then its parts; down, the object.
    """
    if way == "down":
        ((name, size),) = _layout()
        return lambda: _fetch_large(target_of(folder, name), size, addresses * 4, in_ranges=True)
    (file,) = files_of(folder)
    whole, *parts = addresses

    def up() -> None:
        tags = _by_four(lambda number, url: _send_piece(file, number, parts, url), parts)
        _complete(whole, tags)

    return up


def sendfile(way: str, folder: Path, addresses: Sequence[str]) -> Work:
    """One large file in four quarters, an object each: as `multipart`, but nothing is joined."""
    if way == "up":
        (file,) = files_of(folder)
        return lambda: _by_four(
            lambda number, url: _send_piece(file, number, addresses, url), addresses
        )
    ((name, size),) = _layout()
    return lambda: _fetch_large(target_of(folder, name), size, addresses)


def _layout() -> list[tuple[str, int]]:
    return [(name, size) for name, size in json.loads(os.environ["BENCH_LAYOUT"])]


def _by_four(move: Callable[[int, str], Answer], addresses: Sequence[str]) -> list[Answer]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(move, range(len(addresses)), addresses))


def _connection(url: str) -> http.client.HTTPConnection:
    """The connection of this thread, which stays open."""
    if not hasattr(_kept, "connection"):
        _kept.connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection: http.client.HTTPConnection = _kept.connection
    return connection


def _send_part(path: Path, first: int, url: str) -> None:
    end = min(first + PART_BYTES, path.stat().st_size)
    connection, buffer = _connection(url), memoryview(bytearray(PIECE_BYTES))
    _begin_put(connection, url, end - first)
    with path.open("rb", buffering=0) as file:
        while first < end:
            count = os.preadv(file.fileno(), [buffer[: end - first]], first)
            connection.sock.sendall(buffer[:count])
            first += count
    _check(connection)


def _fetch_parts(target: Path, size: int, addresses: Sequence[str]) -> None:
    with target.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)

        def fetch(number: int, url: str) -> None:
            connection, buffer = _connection(url), memoryview(bytearray(PIECE_BYTES))
            connection.request("GET", _path(url))
            response = connection.getresponse()
            assert response.status == 200, response.status
            position = number * PART_BYTES
            while count := response.readinto(buffer):
                os.pwrite(file.fileno(), buffer[:count], position)
                position += count

        _by_four(fetch, addresses)


def _bounds(number: int, count: int, size: int) -> tuple[int, int]:
    return size * number // count, size * (number + 1) // count


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _begin_put(connection: http.client.HTTPConnection, url: str, size: int) -> None:
    connection.putrequest("PUT", _path(url))
    connection.putheader("Content-Length", str(size))
    connection.endheaders()


def _send_piece(path: Path, number: int, addresses: Sequence[str], url: str) -> str:
    first, end = _bounds(number, len(addresses), path.stat().st_size)
    connection = _connection(url)
    _begin_put(connection, url, end - first)
    with path.open("rb") as file:
        while first < end:
            first += os.sendfile(connection.sock.fileno(), file.fileno(), first, end - first)
    return _check(connection)


def _complete(url: str, tags: Sequence[str]) -> None:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        for number, tag in enumerate(tags, 1)
    )
    connection = _connection(url)
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
    connection.request("POST", _path(url), body=body.encode())
    _check(connection)


def _joined(files: Sequence[Path]) -> bytes:
    return b"".join(path.read_bytes() for path in files)


def _send(url: str, body: bytes) -> None:
    connection = _connection(url)
    connection.request("PUT", _path(url), body=body)
    _check(connection)


def _check(connection: http.client.HTTPConnection) -> str:
    response = connection.getresponse()
    response.read()
    assert response.status in (200, 201), response.status
    return response.headers.get("ETag", "")


def _fetch_large(
    target: Path, size: int, addresses: Sequence[str], *, in_ranges: bool = False
) -> None:
    with target.open("w+b") as file:
        os.posix_fallocate(file.fileno(), 0, size)
        with mmap.mmap(file.fileno(), size) as memory, memoryview(memory) as view:

            def fetch(number: int, url: str) -> None:
                first, end = _bounds(number, len(addresses), size)
                asked = {"Range": f"bytes={first}-{end - 1}"} if in_ranges else {}
                with view[first:end] as part:
                    _receive(url, part, asked)

            _by_four(fetch, addresses)


def _unpack(folder: Path, layout: Sequence[tuple[str, int]], url: str) -> None:
    buffer = bytearray(sum(size for _, size in layout))
    _receive(url, memoryview(buffer), {})
    position = 0
    for key, size in layout:
        target_of(folder, key).write_bytes(buffer[position : position + size])
        position += size


def _receive(url: str, view: memoryview, headers: Mapping[str, str]) -> None:
    connection = _connection(url)
    connection.request("GET", _path(url), headers=headers)
    response = connection.getresponse()
    assert response.status in (200, 206), response.status
    position = 0
    while position < len(view):
        position += response.readinto(view[position : position + PIECE_BYTES])
    response.read()
