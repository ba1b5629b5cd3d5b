"""A linked dataset for people: they get no credentials, but URLs that the control plane signs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx

from periflow_sdk.api.client import ApiClient
from periflow_sdk.data.fetchprocess import changed, write_part
from periflow_sdk.data.process import PerProcess
from periflow_sdk.data.source import DataFile
from periflow_sdk.errors import PeriFlowError

_AT_ONCE = 16
_SIGNED_AT_ONCE = 1000
_TRIES = 6
_STALL_SECONDS = 30.0
EXPIRED = (400, 401, 403)
"""What the services say to an address whose time is over."""


class SignedBucket:
    """Reads the objects of a linked dataset.

    Args:
        connect: Makes a client of the control plane; called in each process.
        project: Id of the dataset's project.
        dataset: Its id.
        cloud: Where it is linked to.
    """

    def __init__(
        self, connect: Callable[[], ApiClient], project: str, dataset: str, cloud: str
    ) -> None:
        self._cloud = cloud
        self._project = project
        self._dataset = dataset
        self._client = PerProcess(connect)
        self._http = PerProcess(_open_http)
        self._workers = PerProcess(_start_workers)
        self._lock = PerProcess(threading.Lock)
        self._urls: dict[str, str] = {}

    def list(self) -> list[DataFile]:
        """Every object, sorted by path."""
        found = self._client().dataset_files(self._project, self._dataset)
        return [DataFile(file.path, file.size, file.etag) for file in found]

    def announce(self, files: Sequence[DataFile]) -> None:
        """Have them signed, many at once."""
        unknown = [file.path for file in files if file.path not in self._urls]
        for start in range(0, len(unknown), _SIGNED_AT_ONCE):
            with self._lock():
                self._sign(unknown[start : start + _SIGNED_AT_ONCE])

    def read(self, file: DataFile, start: int, end: int) -> Future[bytes]:
        """Bytes of an object that is still the one that was listed."""
        return self._workers().submit(self._read, file, start, end)

    def read_many(self, files: Sequence[DataFile]) -> Iterator[bytes]:
        """The whole of each, in their order; they are under way when this returns."""
        asked = [self.read(file, 0, file.size) for file in files]
        return (answer.result() for answer in asked)

    def store(
        self, file: DataFile, start: int, end: int, target: Path, final: Path | None = None
    ) -> Future[bytes]:
        """The same, written at their place in a file; then it is renamed to ``final``, if given."""
        return self._workers().submit(self._store, file, start, end, target, final)

    def _url(self, path: str) -> str:
        """Where to GET a file; signed once, however many threads want its parts."""
        with self._lock():
            if path not in self._urls:
                self._sign([path])
            return self._urls[path]

    def _forget(self, path: str, url: str) -> None:
        """Have it signed anew, unless another thread has seen to that."""
        with self._lock():
            if self._urls.get(path) == url:
                del self._urls[path]

    def _sign(self, paths: Sequence[str]) -> None:
        signed = self._client().dataset_sources(self._project, self._dataset, paths)
        self._urls.update((each.path, each.url) for each in signed)

    def _store(
        self, file: DataFile, start: int, end: int, target: Path, final: Path | None
    ) -> bytes:
        content = self._read(file, start, end)
        write_part(content, start, str(target), str(final) if final else None)
        return b""

    def _read(self, file: DataFile, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        trouble = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(min(0.25 * 2**attempt, 8.0) * random.uniform(0.5, 1.0))
            url = self._url(file.path)
            try:
                answer = self._http().get(url, headers=_headers(file, self._cloud, start, end))
            except httpx.TransportError as error:
                trouble = str(error) or type(error).__name__
                continue
            refuse_another(answer, file.path, file.etag, self._cloud)
            if answer.status_code in (200, 206) and len(answer.content) == end - start:
                return answer.content
            trouble = f"the store answered {answer.status_code} with {len(answer.content)} bytes"
            if answer.status_code in EXPIRED:
                self._forget(file.path, url)
        raise PeriFlowError(
            f"{file.path} could not be read in {_TRIES} tries: {trouble}.",
            code="transfer_failed",
            hint="Read it again: what is there already is kept.",
        )


def condition(etag: str | None, cloud: str) -> dict[str, str]:
    """The header by which a service gives an object only while it is the one that was listed."""
    # Google's etags are generations here, which its answers name.
    return {"If-Match": f'"{etag}"'} if etag and cloud != "gcs" else {}


def refuse_another(answer: httpx.Response, path: str, etag: str | None, cloud: str) -> None:
    """Check that an answer is about the object that was listed.

    Raises:
        PeriFlowError: it was changed or removed since then (``dataset_changed``).
    """
    generation = answer.headers.get("x-goog-generation", etag) if cloud == "gcs" else etag
    if answer.status_code in (404, 412) or generation != etag:
        raise PeriFlowError(**changed(path))


def _headers(file: DataFile, cloud: str, start: int, end: int) -> dict[str, str]:
    span = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    return {**span, **condition(file.etag, cloud)}


def _open_http() -> httpx.Client:
    return httpx.Client(timeout=_STALL_SECONDS, limits=httpx.Limits(max_connections=_AT_ONCE))


def _start_workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="periflow-signed")
