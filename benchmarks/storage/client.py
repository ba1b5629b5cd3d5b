"""One tool moves one folder once; prints seconds, processor seconds and added memory as JSON.

Runs in the tool's own environment: it imports the standard library and the tool, nothing else.

    python client.py TOOL up|down SOURCE_OR_TARGET [ADDRESS ...]
"""

from __future__ import annotations

import asyncio
import http.client
import json
import mmap
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

BUCKET = "bench"
PART_BYTES = 16 * 1024 * 1024
# Not 1 MiB: to write as much, Linux looks for free memory in one piece, which can take ten times as
# long as the write.
PIECE_BYTES = 512 * 1024
Work = Callable[[], object]
Answer = TypeVar("Answer")
_kept = threading.local()


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def key_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def target_of(folder: Path, key: str) -> Path:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


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


def periflow(way: str, folder: Path, addresses: Sequence[str]) -> Work:
    from periflow_sdk.api.client import ApiClient
    from periflow_sdk.snapshots import download_snapshot, upload_folder

    project, snapshot = addresses[0], addresses[1] if way == "down" else ""
    client = ApiClient(os.environ["BENCH_URL"], os.environ["BENCH_TOKEN"])
    client.storage_usage(project)  # as `pf` does: the connection is there
    if way == "up":
        return lambda: upload_folder(client, project, folder, keep_name=False).id
    return lambda: download_snapshot(client, project, snapshot, folder) and None


def boto3(way: str, folder: Path, addresses: Sequence[str]) -> Work:
    """As it comes; small files by sixteen threads."""
    from boto3 import client

    s3 = client("s3", endpoint_url=os.environ["BENCH_ENDPOINT"])

    def up() -> None:
        with ThreadPoolExecutor(1 if len(files_of(folder)) == 1 else 16) as pool:
            for done in [
                pool.submit(s3.upload_file, str(path), BUCKET, key_of(path, folder))
                for path in files_of(folder)
            ]:
                done.result()

    def down() -> None:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        with ThreadPoolExecutor(1 if len(keys) == 1 else 16) as pool:
            for done in [
                pool.submit(s3.download_file, BUCKET, key, str(target_of(folder, key)))
                for key in keys
            ]:
                done.result()

    return up if way == "up" else down


def s3fs(way: str, folder: Path, addresses: Sequence[str]) -> Work:
    from s3fs import S3FileSystem

    files = S3FileSystem(endpoint_url=os.environ["BENCH_ENDPOINT"])
    if way == "up":
        return lambda: files.put(f"{folder}/", f"{BUCKET}/", recursive=True)
    return lambda: files.get(f"{BUCKET}/", f"{folder}/", recursive=True)


def obstore(way: str, folder: Path, addresses: Sequence[str]) -> Work:
    """The payload is not signed; 16 MiB times eight, or 64 small objects in flight."""
    import obstore as library
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        endpoint=os.environ["BENCH_ENDPOINT"],
        region="us-east-1",
        unsigned_payload=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    async def up() -> None:
        gate = asyncio.Semaphore(64)

        async def put(path: Path) -> None:
            async with gate:
                await library.put_async(store, key_of(path, folder), path.read_bytes())

        files = files_of(folder)
        if len(files) == 1:
            await library.put_async(
                store, key_of(files[0], folder), files[0], chunk_size=PART_BYTES, max_concurrency=8
            )
        else:
            await asyncio.gather(*map(put, files))

    async def down() -> None:
        found = [item for page in library.list(store) for item in page]
        if len(found) == 1:
            path, size = found[0]["path"], found[0]["size"]
            await asyncio.to_thread(_ranges, library, store, path, size, target_of(folder, path))
            return
        gate = asyncio.Semaphore(64)

        async def get(key: str) -> None:
            async with gate:
                answer = await library.get_async(store, key)
                target_of(folder, key).write_bytes(memoryview(await answer.bytes_async()))

        await asyncio.gather(*(get(item["path"]) for item in found))

    return lambda: asyncio.run(up() if way == "up" else down())


def _ranges(library: Any, store: Any, key: str, size: int, target: Path) -> None:
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, size)

    def fetch(start: int) -> None:
        end = min(start + PART_BYTES, size)
        data = library.get_range(store, key, start=start, end=end)
        os.pwrite(descriptor, memoryview(data), start)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, range(0, size, PART_BYTES)))
    os.close(descriptor)


def s5cmd(way: str, folder: Path, addresses: Sequence[str]) -> Work:
    head = [_program("s5cmd"), "--endpoint-url", os.environ["BENCH_ENDPOINT"], "cp"]
    up, down = [f"{folder}/", f"s3://{BUCKET}/"], [f"s3://{BUCKET}/*", f"{folder}/"]
    return _command([*head, *(up if way == "up" else down)])


def awscli(way: str, folder: Path, addresses: Sequence[str]) -> Work:
    head = [_program("aws"), "s3", "cp", "--recursive", "--only-show-errors"]
    head += ["--endpoint-url", os.environ["BENCH_ENDPOINT"]]
    ends = [str(folder), f"s3://{BUCKET}"]
    return _command([*head, *(ends if way == "up" else reversed(ends))])


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _command(words: Sequence[str]) -> Work:
    def run() -> None:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    return run


def _used() -> tuple[float, int]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    return seconds, max(own.ru_maxrss, others.ru_maxrss)


TOOLS = {
    "multipart": multipart,
    "sendfile": sendfile,
    "raw": raw,
    "periflow": periflow,
    "obstore": obstore,
    "s5cmd": s5cmd,
    "boto3": boto3,
    "s3fs": s3fs,
    "awscli": awscli,
}


def main() -> None:
    name, way, folder, *addresses = sys.argv[1:]
    work = TOOLS[name](way, Path(folder), addresses)
    seconds_before, memory_before = _used()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    cpu, memory = _used()
    row = {
        "seconds": seconds,
        "cpu": cpu - seconds_before,
        "added": (memory - memory_before) / 1000,
        "result": result if isinstance(result, str) else "",
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
