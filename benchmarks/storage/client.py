"""One tool moves one folder once; prints seconds, processor seconds and added memory as JSON.

Runs in the tool's own environment: it imports the standard library and the tool, nothing else.

    python client.py TOOL up|down SOURCE_OR_TARGET [ADDRESS ...]
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from files import files_of, key_of, target_of
from limit import PART_BYTES, Work, multipart, raw, sendfile

BUCKET = "bench"


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
