"""Objects of a bucket, read by a process of its own.

The fastest client for object stores hangs for ever in a forked process once its parent has used
it, and data loaders fork. So no script uses it: each process that reads starts a helper (see
:mod:`.fetchprocess`) and talks to it over pipes. The helper ends when the script does.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet, finalize

from periflow_sdk.api.models import DatasetLink
from periflow_sdk.data.fetchprocess import ODD_NAMES
from periflow_sdk.data.process import PerProcess
from periflow_sdk.data.source import DataFile
from periflow_sdk.errors import MissingExtraError, PeriFlowError

_EXTRAS = {"s3": ("s3", "obstore"), "azure-blob": ("azure", "obstore"), "gcs": ("gcs", "gcsfs")}
# Not by -m: the module would be there twice, and its errors two of a name.
_HELPER = "from periflow_sdk.data.fetchprocess import main; main()"
_GROUP_FILES, _GROUP_BYTES = 64, 4 * 1024 * 1024
_PIPE_BYTES, _LINE_BYTES = 1024 * 1024, 256
_running: WeakSet[_Helper] = WeakSet()


class Fetcher:
    """Reads the objects below a link, with as many requests under way as it is asked for.

    Args:
        link: Where they lie.
        secret: The credential's fields; they go to the helper over its pipe and nowhere else.
        list_usable: Lists it more slowly, without the names that can be no paths of files.

    Raises:
        MissingExtraError: the library for this cloud is not installed.
    """

    def __init__(
        self,
        link: DatasetLink,
        secret: Mapping[str, str],
        list_usable: Callable[[], Iterable[DataFile]] | None = None,
    ) -> None:
        extra, module = _EXTRAS[link.cloud]
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(
                f"Reading datasets in {link.cloud} needs {module}, which is not installed.",
                hint=f"pip install 'periflow_sdk[{extra}]'",
            )
        self._list_usable = list_usable
        self._greeting = {"link": link.model_dump(mode="json"), "secret": dict(secret)}
        self._helper = PerProcess(partial(_Helper, self._greeting))
        self._lock = PerProcess(threading.Lock)

    def list(self) -> list[DataFile]:
        """Every object below the link, in no order."""
        try:
            answer = self._ask({"op": "list"}).result()
        except PeriFlowError as error:
            if error.code != ODD_NAMES or self._list_usable is None:
                raise
            warnings.warn(f"{error.message} They are left out.", stacklevel=2)
            return [*self._list_usable()]
        return [DataFile(path, size, etag) for path, size, etag in json.loads(answer)]

    def read(self, file: DataFile, start: int, end: int) -> Future[bytes]:
        """Bytes of an object that is still the one that was listed."""
        return self._ask(
            {"op": "read", "path": file.path, "etag": file.etag, "start": start, "end": end}
        )

    def read_many(self, files: Sequence[DataFile]) -> Iterator[bytes]:
        """The whole of each, in their order; they are under way when this returns."""
        asked = [
            (group, self._ask({"op": "many", "files": [[f.path, f.etag, f.size] for f in group]}))
            for group in _groups(files)
        ]
        return (content for group, answer in asked for content in _cut(answer.result(), group))

    def store(
        self, file: DataFile, start: int, end: int, target: Path, final: Path | None = None
    ) -> Future[bytes]:
        """The same, written at their place in a file; then it is renamed to ``final``, if given."""
        return self._ask(
            {
                "op": "store",
                "path": file.path,
                "etag": file.etag,
                "start": start,
                "end": end,
                "target": str(target),
                "final": str(final) if final else None,
            }
        )

    def announce(self, files: Sequence[DataFile]) -> None:
        """What will be asked for; a helper needs no warning."""

    def _ask(self, request: dict[str, Any]) -> Future[bytes]:
        with self._lock():
            helper = self._helper()
            if not helper.is_alive:  # killed from outside
                self._helper = PerProcess(partial(_Helper, self._greeting))
                helper = self._helper()
        return helper.ask(request)


def _groups(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """What is asked for in one request: a message an object would cost more than the object."""
    group: list[DataFile] = []
    size = 0
    for file in files:
        if group and (len(group) >= _GROUP_FILES or size + file.size > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if group:
        yield group


def _cut(content: bytes, files: Iterable[DataFile]) -> Iterator[bytes]:
    start = 0
    for file in files:
        yield content[start : start + file.size]
        start += file.size


class _Helper:
    """The helper of this process; it ends when nobody holds this object any more.

    Plain descriptors: buffered files have locks that a fork may leave locked for ever.
    """

    def __init__(self, greeting: Mapping[str, Any]) -> None:
        requests, self._requests = os.pipe()
        own, answers = os.pipe()
        with suppress(OSError, AttributeError):  # more than this user may have, or not on Linux
            fcntl.fcntl(own, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._close = finalize(self, os.close, self._requests)
        self._close.atexit = False
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _HELPER],
                stdin=requests,
                stdout=answers,
                env=_environment(),
                start_new_session=True,
            )
        except OSError:
            os.close(own)
            raise
        finally:
            os.close(requests)
            os.close(answers)
        self._answers = _Answers(own, process)
        self._send_lock = threading.Lock()
        _running.add(self)
        with suppress(OSError):  # it has ended at once: whoever asks is told
            self._send(greeting)
        threading.Thread(target=self._answers.listen, name="periflow-fetcher", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it answers still."""
        return self._answers.are_open

    def ask(self, request: dict[str, Any]) -> Future[bytes]:
        number, answer = self._answers.expect()
        try:
            self._send({**request, "id": number})
        except OSError:
            self._answers.end()
        return answer

    def leave_to_parent(self) -> None:
        """In a forked process: the pipes are the parent's, which alone keeps the helper alive."""
        self._close()
        self._answers.close()

    def _send(self, document: Mapping[str, Any]) -> None:
        line = memoryview(json.dumps(document).encode() + b"\n")
        with self._send_lock:
            while line:
                line = line[os.write(self._requests, line) :]


class _Answers:
    """What a helper answers, and who waits for it; its thread holds this and not the helper."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._stream = _Stream(descriptor)
        self._process = process
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[bytes]] = {}
        self._count = 0
        self.are_open = True
        self.close = finalize(self, os.close, descriptor)
        self.close.atexit = False

    def expect(self) -> tuple[int, Future[bytes]]:
        """The number of the next request, and what will have its answer."""
        answer: Future[bytes] = Future()
        with self._lock:
            self._count += 1
            if self.are_open:
                self._waiting[self._count] = answer
            else:
                answer.set_exception(_ended())
            return self._count, answer

    def listen(self) -> None:
        """Take answers until there are no more."""
        try:
            while line := self._stream.line():
                header = json.loads(line)
                content = self._stream.exactly(header["size"])
                if content is None:
                    break  # killed in the middle of it: whoever waits must not take it for whole
                with self._lock:
                    answer = self._waiting.pop(header["id"])
                if error := header.get("error"):
                    answer.set_exception(PeriFlowError(**error))
                else:
                    answer.set_result(content)
        finally:
            self.end()
            self.close()
            self._process.wait()

    def end(self) -> None:
        """Tell everybody that there will be no answer."""
        with self._lock:
            self.are_open = False
            lost, self._waiting = self._waiting, {}
        for answer in lost.values():
            answer.set_exception(_ended())


def _ended() -> PeriFlowError:
    return PeriFlowError(
        "The process that reads the bucket has ended.",
        code="fetcher_ended",
        hint="Read again: it is started anew.",
    )


class _Stream:
    """Lines and blocks of bytes from a pipe; empty or None at its end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def line(self) -> bytes:
        while b"\n" not in self._rest:
            piece = os.read(self._descriptor, _LINE_BYTES)  # the rest of it is copied once more
            if not piece:
                return b""
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def exactly(self, size: int) -> bytes | None:
        if size <= len(self._rest):
            content, self._rest = self._rest[:size], self._rest[size:]
            return content
        pieces = [self._rest]
        missing = size - len(self._rest)
        self._rest = b""
        while missing > 0:
            piece = os.read(self._descriptor, min(missing, _PIPE_BYTES))
            if not piece:
                return None
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)


def _in_forked_child() -> None:
    for helper in list(_running):
        helper.leave_to_parent()
    _running.clear()


os.register_at_fork(after_in_child=_in_forked_child)


def _environment() -> dict[str, str]:
    """This process's own, with the SDK importable."""
    package = str(Path(__file__).resolve().parents[2])
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([package, *others])}
