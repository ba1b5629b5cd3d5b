"""States that ranks left in memory, written to the checkpoint folder: format, staging, name."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import mmap
import os
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from periflow_sdk import _memory_file as word
from periflow_sdk._memory_stage import publishing
from periflow_sdk.agent.folder import try_lock
from periflow_sdk.agent.journal import ranks
from periflow_sdk.agent.patience import Backoff
from periflow_sdk.agent.staged import opened_folders
from periflow_sdk.agent.torchfile import write_torch_file
from periflow_sdk.errors import PeriFlowError, UnsafePathError

_log = logging.getLogger(__name__)
_NAME = re.compile(r"memory-[0-9]{1,10}-[0-9]{1,10}")
_ID = re.compile(r"[0-9a-f]{32}")
_INTERVAL_SECONDS = 0.05
_TRIES = 5
_LONGEST_INDEX = 64 * 1024 * 1024


@dataclass(frozen=True)
class _State:
    """A state that waits in a memory file."""

    number: int
    rank: int
    path: Path


class MemoryWriter:
    """Writes every state in memory to a file, oldest first, beside the uploads.

    Args:
        base: The checkpoint folder, by its real path.
        interval_seconds: How often to look for a state.
        memory_dir: Where the folders of the ranks with their states are; the run directory if None.
    """

    def __init__(
        self,
        base: Path,
        run_dir: Path,
        interval_seconds: float = _INTERVAL_SECONDS,
        memory_dir: Path | None = None,
    ) -> None:
        self._base = base
        self._interval_seconds = interval_seconds
        self._run_dir = run_dir
        self._memory_dir = memory_dir or run_dir
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="memory", daemon=True)
        self._lock: int | None = None

    def start(self) -> None:
        """Begin to serve the ranks; from now on they may leave states in memory."""
        self._thread.start()

    def finish(self) -> None:
        """The ranks have ended: write what is left."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        self._write_all()

    def is_pending(self, rank: int, number: int) -> bool:
        """Whether the state of this number is still to be written."""
        return any(
            state.number == number for state in _waiting(rank, self._memory_dir / f"rank-{rank}")
        )

    def _follow(self) -> None:
        while not self._end.wait(self._interval_seconds):
            if self._lock is None:
                with contextlib.suppress(OSError):
                    self._lock = try_lock(self._run_dir / "worker.lock")
            try:
                self._write_all()
            except Exception:
                _log.exception("states in memory cannot be written")

    def _write_all(self) -> None:
        found = [
            state
            for rank, folder in ranks(self._memory_dir).items()
            for state in _waiting(rank, folder)
        ]
        for state in sorted(found, key=lambda state: state.number):
            self._write_stubbornly(state)
        for folder in ranks(self._memory_dir).values():
            _remove_abandoned(folder)

    def _write_stubbornly(self, state: _State) -> None:
        """Write a state; one that cannot be written after several tries is given up."""
        backoff = Backoff()
        for number in range(_TRIES):
            try:
                self._write(state)
                break
            except (OSError, ValueError, PeriFlowError) as error:
                _log.error("the state in %s cannot be written: %s", state.path.name, error)
                if number + 1 < _TRIES and isinstance(error, OSError):
                    backoff.pause()
                else:
                    break
        _consume(state)

    def _write(self, state: _State) -> None:
        with _mapped(state.path) as view:
            index = _index(view)
            staged, path = (".periflow", index.upload_id), index.path
            with opened_folders(self._base) as folders:
                folder = folders((*staged, *path.parent.parts))
                temporary = f".tmp-{index.upload_id}"
                _write_file(folder, temporary, path.stem, view, index, state.number)
                if _header(view)[word.FILLED] != state.number:  # the rank has taken it back
                    os.unlink(temporary, dir_fd=folder)
                    return
                os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                with contextlib.suppress(OSError, PeriFlowError):
                    self._publish(state, folder, folders(path.parent.parts), path.name)

    def _publish(self, state: _State, staged: int, folder: int, name: str) -> None:
        """Put the file under its name, too, unless a newer one is there."""
        temporary = f".tmp-rank{state.rank}-{name}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        os.link(name, temporary, src_dir_fd=staged, dst_dir_fd=folder, follow_symlinks=False)
        with publishing(state.path.parent):
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                is_newer = status.st_mtime_ns > state.number
            except FileNotFoundError:
                is_newer = False
            if is_newer:
                os.unlink(temporary, dir_fd=folder)
            else:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


@dataclass(frozen=True)
class _Index:
    """What a memory file says of its content, checked."""

    upload_id: str
    path: PurePosixPath
    skeleton: tuple[int, int]
    storages: list[tuple[int, int]]


def _index(view: memoryview) -> _Index:
    """The index of a memory file.

    Raises:
        ValueError: It points outside the file, or is none.
        UnsafePathError: The path leads out of the checkpoint folder.
    """
    from periflow_sdk.snapshots.path import check_path

    header = _header(view)
    start, length = header[word.INDEX_OFFSET], header[word.INDEX_BYTES]
    _check_range(view, start, length)
    if length > _LONGEST_INDEX:
        raise ValueError("the index is too long")
    document: Any = json.loads(bytes(view[start : start + length]))
    if not isinstance(document, dict):
        raise ValueError("the index is not an object")
    upload_id, path = str(document.get("id")), str(document.get("path"))
    check_path(path)
    if not _ID.fullmatch(upload_id) or path.split("/")[0] == ".periflow":
        raise UnsafePathError(f"{path!r} is not a place for a checkpoint.")
    ranges = [document.get("pickle"), *document.get("storages", [])]
    checked = [_check_range(view, *(int(number) for number in pair)) for pair in ranges]
    return _Index(upload_id, PurePosixPath(path), checked[0], checked[1:])


def _check_range(view: memoryview, start: int, length: int) -> tuple[int, int]:
    if start < word.HEADER_BYTES or length < 0 or start + length > view.nbytes:
        raise ValueError("the index points outside the file")
    return start, length


def _write_file(
    folder: int, name: str, stem: str, view: memoryview, index: _Index, number: int
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o644, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        start, length = index.skeleton
        storages = (view[offset : offset + size] for offset, size in index.storages)
        write_torch_file(file, stem, view[start : start + length], storages)
        file.flush()
        os.utime(descriptor, ns=(number, number))


def _header(view: memoryview) -> tuple[int, ...]:
    return struct.unpack_from("<5q", view)


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        memory = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
    view = memoryview(memory)
    try:
        yield view
    finally:
        view.release()
        with contextlib.suppress(BufferError):  # a failure's traceback still holds a part of it
            memory.close()


def _waiting(rank: int, folder: Path) -> Iterator[_State]:
    for path in _memory_files(folder):
        header = _read_header(path)
        if header and header[word.FILLED] > header[word.CONSUMED]:
            yield _State(header[word.FILLED], rank, path)


def _memory_files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return []


def _read_header(path: Path) -> tuple[int, ...] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(descriptor, 5 * 8)
    finally:
        os.close(descriptor)
    if len(data) < 5 * 8:
        return None
    header = struct.unpack("<5q", data)
    return header if header[0] == word.MAGIC else None


def _consume(state: _State) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(state.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, struct.pack("<q", state.number), 8 * word.CONSUMED)
        finally:
            os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Give back the memory of processes that have ended, once there is nothing more to read."""
    for path in _memory_files(folder):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # After the lock: nobody fills it any more.
                header = _read_header(path)
                if header is None or header[word.FILLED] <= header[word.CONSUMED]:
                    path.unlink()
            finally:
                os.close(descriptor)
