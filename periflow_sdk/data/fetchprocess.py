"""The helper of :mod:`.fetcher`.

Its first line of input is ``{"link": ..., "secret": ...}``. Each further one is a request with an
``id``; the answer is a line ``{"id", "size", "error"}`` and so many bytes, in any order:

    list                                        a JSON list of [path, size, etag]
    read   path etag start end                  the bytes
    many   files: lists of path, etag, size     all bytes of each, one behind the other
    store  path etag start end target final     nothing; they are written at ``start`` of the file
                                                ``target``, which is renamed to ``final``, if any
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

_SMALL_AT_ONCE, _LARGE_AT_ONCE = 64, 12
_LARGE_BYTES = 1024 * 1024
ODD_NAMES = "odd_names"
"""The code of a list that the client of a cloud breaks off for a name such as ``a//b``."""
_Error = dict[str, Any]


class Span(NamedTuple):
    """The bytes from ``start`` to before ``end`` of an object with this etag."""

    path: str
    etag: str | None
    start: int
    end: int


class Bucket(Protocol):
    """What a cloud's client has to do."""

    async def list(self) -> list[tuple[str, int, str | None]]:
        """Path, size and etag of every object."""

    async def read_quickly(self, spans: Sequence[Span]) -> Sequence[Any | None]:
        """Bytes (a buffer) of small objects; None for those that `read` has to be asked for.

        Args:
            spans: At least one.
        """

    async def read(self, span: Span) -> Any:
        """Bytes (a buffer) of an object.

        Raises:
            ChangedError: it has another etag by now, or is gone.
        """

    def explain(self, error: Exception) -> _Error:
        """``message``, ``code`` and ``hint`` for an error of the client."""


class ChangedError(Exception):
    """The object is not what was listed.

    Args:
        path: Of the object.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Helper:
    """Answers requests until there are no more."""

    def __init__(self, bucket: Bucket, answers: BinaryIO) -> None:
        self._bucket = bucket
        self._answers = answers
        self._small = asyncio.Semaphore(_SMALL_AT_ONCE)
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, requests: BinaryIO) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**20)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), requests)
        while line := await reader.readline():
            task = loop.create_task(self._answer(json.loads(line)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: dict[str, Any]) -> None:
        content: Any = b""
        header: dict[str, Any] = {"id": request["id"]}
        try:
            content = await getattr(self, f"_{request['op']}")(request)
        except ChangedError as error:
            header["error"] = changed(error.path)
        except OSError as error:
            header["error"] = _disk(error, request)
        except Exception as error:
            header["error"] = self._bucket.explain(error)
        header["size"] = len(content)
        self._answers.write(json.dumps(header).encode() + b"\n")
        self._answers.write(content)
        self._answers.flush()

    async def _list(self, _: dict[str, Any]) -> bytes:
        return json.dumps(await self._bucket.list()).encode()

    async def _read(self, request: dict[str, Any]) -> Any:
        span = Span(request["path"], request["etag"], request["start"], request["end"])
        return (await self._contents([span]))[0]

    async def _many(self, request: dict[str, Any]) -> bytes:
        spans = [Span(path, etag, 0, size) for path, etag, size in request["files"]]
        return b"".join(await self._contents(spans))

    async def _contents(self, spans: Sequence[Span]) -> list[Any]:
        small = [span for span in spans if 0 < span.end - span.start <= _LARGE_BYTES]
        quick = await self._bucket.read_quickly(small) if small else ()
        found = {span: each for span, each in zip(small, quick, strict=True) if each is not None}
        others = [span for span in spans if span not in found]
        found |= zip(others, await asyncio.gather(*map(self._surely, others)), strict=True)
        return [found[span] for span in spans]

    async def _surely(self, span: Span) -> Any:
        size = span.end - span.start
        if size <= 0:
            return b""
        async with self._large if size > _LARGE_BYTES else self._small:
            content = await self._bucket.read(span)
        if len(content) != size:
            raise ChangedError(span.path)
        return content

    async def _store(self, request: dict[str, Any]) -> bytes:
        content = await self._read(request)
        place = request["start"], request["target"], request["final"]
        if len(content) > _LARGE_BYTES:  # others go on meanwhile
            await asyncio.to_thread(write_part, content, *place)
        else:
            write_part(content, *place)
        return b""


def write_part(content: Any, start: int, target: str, final: str | None) -> None:
    """Write bytes at their place in a file; then it is renamed to ``final``, if given.

    Args:
        content: A buffer.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if final else 0)
    file = os.open(target, flags, 0o644)
    try:
        view, done = memoryview(content), 0
        while done < len(view):
            done += os.pwrite(file, view[done:], start + done)
    finally:
        os.close(file)
    if final:
        os.rename(target, final)  # noqa: PTH104


def changed(path: str) -> _Error:
    """What is said of an object that is not what was listed."""
    return {
        "message": f"{path} is not what it was in the bucket when the dataset was opened.",
        "code": "dataset_changed",
        "hint": "Open the dataset again, in a job by submitting it again: it is then read anew.",
    }


def _disk(error: OSError, request: dict[str, Any]) -> _Error:
    return {
        "message": f"{request.get('target')} cannot be written: {error.strerror}.",
        "code": "disk_full" if error.errno in (28, 122) else "cache_failed",
        "hint": "Make room on that disk, run `pf cache clear`, or set PERIFLOW_CACHE_DIR to a "
        "folder on another one.",
    }


def _open_bucket(greeting: dict[str, Any]) -> Bucket:
    if greeting["link"]["cloud"] == "gcs":
        from periflow_sdk.data.gcsbucket import GcsBucket

        return GcsBucket(greeting["link"], greeting["secret"])
    from periflow_sdk.data.storebucket import StoreBucket

    return StoreBucket(greeting["link"], greeting["secret"])


def main() -> None:
    """Serve one process, which closes the pipe when it needs no more."""
    # Whoever ends a job asks every process of it; this one is needed until the script has left.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    requests = os.fdopen(0, "rb", buffering=0)
    greeting = b""
    while not greeting.endswith(b"\n"):
        piece = requests.read(1)  # nothing of what follows may be taken along
        if not piece:
            return
        greeting += piece
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    bucket = _open_bucket(json.loads(greeting))
    try:
        asyncio.run(Helper(bucket, answers).run(requests))
    except BrokenPipeError:
        pass
    os._exit(0)  # requests that nobody waits for any more
