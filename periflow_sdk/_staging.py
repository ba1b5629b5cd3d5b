"""Checkpoint files made safe: copied aside, so that the script may overwrite its own at once."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ._open_files import OpenFiles
from .errors import UsageError

STAGING_FOLDER = ".periflow"
_ATTEMPTS = 5
_EXPECTED = 3  # files of one name that may be under way
_SETTLING_MILLISECONDS = 20
_CLOSED_SECONDS = 1.0  # how long other writers of a file, such as other ranks, are waited for
_FICLONE = 0x40049409
_COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE: what the kernel stamps files with
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Signature(NamedTuple):
    """What changes when a file is written or replaced."""

    size: int
    mtime_ns: int
    inode: int


class StagedFile(NamedTuple):
    """One file of a staged checkpoint, as the journal lists it; with its inode if it is held."""

    path: str
    size: int
    mtime_ns: int
    inode: int = 0


class CheckpointFolder:
    """The files of a checkpoint folder, and which of them are new since the last upload.

    Args:
        path: The folder; it need not exist yet.
        is_restored: True if what is in it now came from an earlier attempt and is not new.
    """

    def __init__(self, path: str | os.PathLike[str], *, is_restored: bool = False) -> None:
        self.path = normalized(path)
        self._seen: dict[Path, Signature] = {}
        self._open_files = OpenFiles()
        self._expected: dict[Path, tuple[int, ...]] = {}
        self._shares_blocks: bool | None = None
        if is_restored:
            self.mark_seen(files_in(self.path))

    def changed_files(self) -> list[Path]:
        """Files that are new or differ from what was last uploaded."""
        return [f for f in files_in(self.path) if self._is_changed(f)]

    def expect(self, file: Path, mtime_ns: int) -> None:
        """A file with this time will appear that is uploaded already."""
        self._expected[file] = (*self._expected.get(file, ())[-_EXPECTED:], mtime_ns)

    def _is_changed(self, file: Path) -> bool:
        signature = _signature(file)
        if signature is not None and signature.mtime_ns in self._expected.get(file, ()):
            return False
        return signature != self._seen.get(file)

    def stage(self, files: list[Path], root: Path, upload_id: str) -> list[StagedFile]:
        """Copy files aside, whole and unchanged, to ``.periflow/<upload_id>``.

        Args:
            files: What to copy.
            root: The folder that paths in the checkpoint are relative to.
            upload_id: The name of the folder they are copied into.

        Raises:
            OSError: Nothing is staged: the disk is full, or a file never stood still.
            UnicodeError: Nothing is staged: a name is not UTF-8, so no manifest can hold it.
        """
        try:
            signatures = _copy_still(files, root, self.staged_path(upload_id), self._open_files)
        except (OSError, UnicodeError):
            self.remove_staged(upload_id)
            raise
        self._seen.update(signatures)
        return [
            StagedFile(file.relative_to(root).as_posix(), signature.size, signature.mtime_ns)
            for file, signature in signatures.items()
        ]

    def hold(self, files: list[Path], run_dir: Path, upload_id: str) -> list[StagedFile]:
        """Have the worker copy large files while it holds them; empty where that cannot be."""
        from . import _lease

        marks = {file: _stat(file) for file in files}
        size = sum(mark.size for mark in marks.values())
        if size < _lease.LEAST_BYTES or not all(_is_own(file, self.path) for file in files):
            return []
        target = self.staged_path(upload_id)
        target.mkdir(parents=True)
        if self._shares_blocks is None:
            self._shares_blocks = _can_clone(files[0], target / ".probe")
        if self._shares_blocks:
            return []
        staged = {file.relative_to(self.path).as_posix(): mark for file, mark in marks.items()}
        for file in files:
            (target / file.relative_to(self.path)).parent.mkdir(parents=True, exist_ok=True)
        if not _lease.hold(run_dir, upload_id, dict(staged)):
            return []
        self._seen.update(marks)
        return [StagedFile(path, *mark) for path, mark in staged.items()]

    def link(self, file: Path, upload_id: str) -> list[StagedFile]:
        """Stage a file of our own writer, which never overwrites in place, by a hard link.

        Raises:
            OSError: Nothing is staged.
        """
        target = self.staged_path(upload_id) / file.relative_to(self.path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(file)
        except OSError:  # a file system without links
            return self.stage([file], self.path, upload_id)
        self.mark_seen([file])
        status = target.stat()
        path = file.relative_to(self.path).as_posix()
        return [StagedFile(path, status.st_size, status.st_mtime_ns)]

    def staged_path(self, upload_id: str) -> Path:
        """Where the files of an upload are staged."""
        return self.path / STAGING_FOLDER / upload_id

    def remove_staged(self, upload_id: str) -> None:
        """Take back what was staged."""
        import shutil

        shutil.rmtree(self.staged_path(upload_id), ignore_errors=True)

    def root_of(self, path: Path) -> Path:
        """What paths in the checkpoint are relative to: this folder, or the parent of ``path``."""
        return self.path if path.is_relative_to(self.path) else path.parent

    def mark_seen(self, files: Iterable[Path]) -> None:
        """Take these files, as they are, for uploaded."""
        for file in files:
            if (signature := _signature(file)) is not None:
                self._seen[file] = signature


def named_files(path: Path) -> list[Path]:
    """The file, or the files below the folder, that the caller named.

    Raises:
        UsageError: There is nothing at this path.
    """
    if path.is_dir():
        return list(files_in(path))
    if path.is_file():
        return [path]
    raise UsageError(
        f"upload_checkpoint({str(path)!r}): there is no such file or folder",
        hint="save the checkpoint first, or leave the path out to upload what has changed",
    )


def files_in(folder: Path) -> Iterator[Path]:
    """Regular files below a folder, in order, without ours and without temporary ones."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if _is_temporary(entry.name):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                yield from files_in(entry)
        elif entry.is_file():
            yield entry


def normalized(path: str | os.PathLike[str]) -> Path:
    """An absolute path without ``..``, with its links as they are: the agent compares it."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps "..")


def _is_temporary(name: str) -> bool:
    return name == STAGING_FOLDER or name.startswith(".tmp") or name.endswith(".tmp")


def _signature(path: Path) -> Signature | None:
    try:
        return _stat(path)
    except OSError:
        return None


def _stat(path: Path) -> Signature:
    status = path.stat()
    return Signature(status.st_size, status.st_mtime_ns, status.st_ino)


def _settled_signature(path: Path) -> Signature | None:
    """A file's signature, taken when a later write is sure to change it; None if it is written.

    The kernel stamps files in ticks of some milliseconds; within the tick of its last write, a
    file may be written again without a trace.
    """
    first = last = _stat(path)
    for _ in range(_SETTLING_MILLISECONDS):
        if time.clock_gettime_ns(_COARSE_CLOCK) > last.mtime_ns:
            return last
        time.sleep(0.001)
        last = _stat(path)
    return last if last == first else None  # a stamp in the future that nobody renews


def _copy_still(
    files: list[Path], root: Path, target: Path, open_files: OpenFiles
) -> dict[Path, Signature]:
    """Copy until every file is, after the last copy, what it was before its own, and closed."""
    copied: dict[Path, Signature] = {}
    moving = files
    deadline = time.monotonic() + _CLOSED_SECONDS
    for _ in range(_ATTEMPTS):
        for file in moving:
            relative = file.relative_to(root)
            relative.as_posix().encode()
            open_files.wait(file, deadline)
            if (before := _settled_signature(file)) is not None:
                _copy(file, target / relative, before.mtime_ns)
                copied[file] = before
        moving = [
            f for f in files if f not in copied or open_files.has(f) or _signature(f) != copied[f]
        ]
        if not moving:
            return copied
    raise OSError(errno.EBUSY, f"{moving[0].name} is still being written")


def _copy(source: Path, target: Path, mtime_ns: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as write:
        mode = stat.S_IMODE(os.fstat(read.fileno()).st_mode) & 0o777
        os.fchmod(write.fileno(), mode | stat.S_IRUSR | stat.S_IWUSR)
        if not _clone(read.fileno(), write.fileno()):
            copy_bytes(read.fileno(), write.fileno())
    os.utime(target, ns=(mtime_ns, mtime_ns))


def _is_own(file: Path, folder: Path) -> bool:
    """Whether a file lies below a folder and no link leads to it: the worker follows none."""
    if not file.is_relative_to(folder):
        return False
    plain = os.path.join(os.path.realpath(folder), file.relative_to(folder))  # noqa: PTH118
    return os.path.realpath(file) == plain


def _can_clone(file: Path, probe: Path) -> bool:
    with file.open("rb", buffering=0) as read, probe.open("wb", buffering=0) as write:
        can = _clone(read.fileno(), write.fileno())
    probe.unlink()
    return can


def _clone(read: int, write: int) -> bool:
    import fcntl

    try:
        fcntl.ioctl(write, _FICLONE, read)
    except OSError:
        return False
    return True


def copy_bytes(read: int, write: int) -> None:
    """Copy what is left of one open file into another, in the kernel where it can."""
    try:
        while os.copy_file_range(read, write, 1 << 30):
            pass
        return
    except OSError as error:
        if error.errno in _FATAL:
            raise
    os.lseek(read, 0, os.SEEK_SET)
    os.lseek(write, 0, os.SEEK_SET)
    while block := os.read(read, 1 << 20):
        view = memoryview(block)
        while view:
            view = view[os.write(write, view) :]
