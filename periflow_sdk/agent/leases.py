"""Files of scripts, held with read leases until they are copied: nobody can tear them meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import signal
import socket
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from periflow_sdk import _lease as line
from periflow_sdk._staging import copy_bytes
from periflow_sdk.agent.gathering import Part
from periflow_sdk.agent.staged import opened_folders
from periflow_sdk.errors import PeriFlowError

_log = logging.getLogger(__name__)
_ID = re.compile(r"[0-9a-f]{32}")
_CONFIRM_SECONDS = 1.0
_MOST_COPIES = 4
_POLL_SECONDS = 0.01
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class _Held:
    """An open file and what it has to be before and after it is copied."""

    path: PurePosixPath
    descriptor: int
    mark: tuple[int, int, int]

    def is_as_marked(self) -> bool:
        status = os.fstat(self.descriptor)
        found = (status.st_size, status.st_mtime_ns, status.st_ino)
        return stat.S_ISREG(status.st_mode) and found == self.mark


class LeaseKeeper:
    """Takes leases for the ranks of a node and copies what it holds to the staging folder.

    Args:
        base: The checkpoint folder, by its real path.
    """

    def __init__(self, base: Path, run_dir: Path) -> None:
        self._base = base
        self._path = run_dir / line.SOCKET
        self._socket: socket.socket | None = None
        self._pending: set[str] = set()

    def start(self) -> None:
        """Begin to answer; call it from the main thread. Where it cannot, ranks copy themselves."""
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # how the kernel tells of a waiting writer
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            listener.listen(16)
        except OSError as error:
            _log.warning("no leases are taken: %s", error)
            listener.close()
            return
        self._socket = listener
        threading.Thread(target=self._serve, args=[listener], name="leases", daemon=True).start()

    def finish(self) -> None:
        """The ranks have ended: copy what is held."""
        self._path.unlink(missing_ok=True)
        while self._pending:  # a rank that did not confirm is given up after a while
            time.sleep(_POLL_SECONDS)

    def is_pending(self, upload_id: str) -> bool:
        """Whether files of this upload are still being copied."""
        return upload_id in self._pending

    def _serve(self, listener: socket.socket) -> None:
        while True:
            rank, _ = listener.accept()
            with rank, contextlib.suppress(OSError, ValueError, KeyError, TypeError, PeriFlowError):
                self._answer(rank)

    def _answer(self, rank: socket.socket) -> None:
        rank.settimeout(_CONFIRM_SECONDS)
        request = json.loads(rank.recv(line.LONGEST_REQUEST))
        upload_id = str(request["id"])
        marks = {str(path): tuple(mark) for path, mark in request["files"].items()}
        if not _ID.fullmatch(upload_id) or len(self._pending) >= _MOST_COPIES:
            return
        with contextlib.ExitStack() as stack:
            held = [_lease(self._base, path, mark, stack) for path, mark in marks.items()]
            self._pending.add(upload_id)  # before the rank can record it
            stack.callback(self._pending.discard, upload_id)
            rank.send(b"held")
            if rank.recv(16) == b"go":
                arguments = [upload_id, held, stack.pop_all()]
                threading.Thread(target=self._copy, args=arguments).start()

    def _copy(self, upload_id: str, held: list[_Held], stack: contextlib.ExitStack) -> None:
        with stack:
            try:
                for file in held:
                    _copy_aside(self._base, upload_id, file)
            except (OSError, PeriFlowError) as error:
                _log.error("files of %s cannot be copied: %s", upload_id, error)


def recover(base: Path, part: Part) -> None:
    """Copy files of a part whose copy a killed worker did not end, if they are what they were.

    Raises:
        OSError: One is gone or was written since.
        PeriFlowError: A link lies on the way.
    """
    for path, mark in part.marks.items():
        with contextlib.ExitStack() as stack, opened_folders(base) as folders:
            name = PurePosixPath(path)
            folder = folders((*part.staged.split("/"), *name.parent.parts))
            with contextlib.suppress(FileNotFoundError):
                os.stat(name.name, dir_fd=folder, follow_symlinks=False)
                continue
            with contextlib.suppress(FileNotFoundError):
                _copy_aside(base, part.upload_id, _opened(base, path, mark, stack))


def _lease(base: Path, path: str, mark: tuple[int, ...], stack: contextlib.ExitStack) -> _Held:
    file = _opened(base, path, mark, stack)
    # Refused while anybody has it open for writing.
    fcntl.fcntl(file.descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    if not file.is_as_marked():
        raise BlockingIOError(f"{path} has changed")
    return file


def _opened(base: Path, path: str, mark: tuple[int, ...], stack: contextlib.ExitStack) -> _Held:
    from periflow_sdk.snapshots.path import check_path

    check_path(path)
    name = PurePosixPath(path)
    size, mtime_ns, inode = (int(number) for number in mark)
    with opened_folders(base) as folders:
        descriptor = os.open(name.name, _READ_FLAGS, dir_fd=folders(name.parent.parts))
    stack.callback(os.close, descriptor)
    return _Held(name, descriptor, (size, mtime_ns, inode))


def _copy_aside(base: Path, upload_id: str, file: _Held) -> None:
    """Copy a file to the staging folder; it appears there whole, or not at all."""
    if not file.is_as_marked():
        raise BlockingIOError(f"{file.path} has changed")
    with opened_folders(base) as folders:
        folder = folders((".periflow", upload_id, *file.path.parent.parts))
        temporary = f".tmp-{file.path.name}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            mode = stat.S_IMODE(os.fstat(file.descriptor).st_mode) & 0o777
            os.fchmod(target, mode | stat.S_IRUSR | stat.S_IWUSR)
            copy_bytes(file.descriptor, target)
            os.utime(target, ns=(file.mark[1], file.mark[1]))
        finally:
            os.close(target)
        if not file.is_as_marked():  # the kernel has waited for us in vain
            os.unlink(temporary, dir_fd=folder)
            raise BlockingIOError(f"{file.path} was written while it was copied")
        os.rename(temporary, file.path.name, src_dir_fd=folder, dst_dir_fd=folder)
