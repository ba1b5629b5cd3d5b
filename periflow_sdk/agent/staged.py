"""Staged files, opened beneath the checkpoint folder only: the journal is not trusted."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from periflow_sdk.agent.gathering import Gathering, Part
from periflow_sdk.errors import CheckpointError, UnsafePathError

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def staged_files(base: Path, gathering: Gathering) -> Iterator[dict[str, Path]]:
    """The files of a checkpoint: path in the snapshot → where to read it.

    The paths lead through open descriptors of their folders, so nothing that is put in a
    folder's place later is followed.

    Args:
        base: The checkpoint folder, by its real path.

    Raises:
        CheckpointError: a file is missing or is not as it was when it was staged.
        UnsafePathError: a link lies on the way.
    """
    with contextlib.ExitStack() as stack:
        folders = _Folders(base, stack)
        files = {}
        for path, (part, size) in gathering.files().items():
            name = PurePosixPath(path)
            folder = folders.open((*part.staged.split("/"), *name.parent.parts))
            _check(folder, name, size, part.changed_at.get(path))
            files[path] = Path(f"/proc/self/fd/{folder}/{name.name}")
        yield files


@contextlib.contextmanager
def opened_folders(base: Path) -> Iterator[Callable[[tuple[str, ...]], int]]:
    """Opens folders below the checkpoint folder by their names, links never followed.

    Raises:
        CheckpointError: a folder is gone.
        UnsafePathError: a link lies on the way.
    """
    with contextlib.ExitStack() as stack:
        yield _Folders(base, stack).open


def written_sizes(base: Path, part: Part) -> dict[str, int]:
    """The bytes that the files of a part have now.

    Raises:
        CheckpointError: one is missing.
        UnsafePathError: a link lies on the way.
    """
    with opened_folders(base) as folders:
        sizes = {}
        for path in part.files:
            name = PurePosixPath(path)
            folder = folders((*part.staged.split("/"), *name.parent.parts))
            try:
                sizes[path] = os.stat(name.name, dir_fd=folder, follow_symlinks=False).st_size
            except FileNotFoundError:
                raise CheckpointError(f"The state of {path} could not be written.") from None
        return sizes


def remove_staged(base: Path, part: Part) -> None:
    """Remove the staged folder of a part: its checkpoint is committed."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError, CheckpointError):
        parent, name = part.staged.split("/")
        folder = _Folders(base, stack).open((parent,))
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


class _Folders:
    """Folders opened one name after the other, without ever following a link."""

    def __init__(self, base: Path, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._open: dict[tuple[str, ...], int] = {}
        self._open[()] = self._keep(os.open(base, _FOLDER_FLAGS))

    def open(self, names: tuple[str, ...]) -> int:
        if names not in self._open:
            parent = self.open(names[:-1])
            try:
                folder = os.open(names[-1], _FOLDER_FLAGS, dir_fd=parent)
            except FileNotFoundError:
                raise CheckpointError("The staged files are gone.") from None
            except NotADirectoryError:
                raise UnsafePathError(f"{'/'.join(names)} is not a folder.") from None
            self._open[names] = self._keep(folder)
        return self._open[names]

    def _keep(self, descriptor: int) -> int:
        self._stack.callback(os.close, descriptor)
        return descriptor


def _check(folder: int, path: PurePosixPath, size: int, changed_at: int | None) -> None:
    try:
        status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise CheckpointError(f"The staged file {path} is gone.") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnsafePathError(f"The staged {path} is not a regular file.")
    if status.st_size != size:
        raise CheckpointError(f"The staged file {path} has {status.st_size} bytes, not {size}.")
    if changed_at is not None and status.st_mtime_ns != changed_at:
        raise CheckpointError(f"The staged file {path} was overwritten after it was staged.")
