"""Walking a folder: what it holds and how large it is, before anything is read or sent."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from periflow_sdk.errors import NotFoundError, PeriFlowError, UnsafePathError, UsageError
from periflow_sdk.snapshots.ignore import IgnoreRules, IgnoreScope, LeftOut
from periflow_sdk.snapshots.manifest import DirEntry, LinkEntry
from periflow_sdk.snapshots.path import check_link, check_path

_PLAIN_FOLDER_MODE = 0o755
_NOTHING_LEFT_OUT = IgnoreRules(files=(), caches=False, secrets=False)
_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written to or replaced."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to send: its path in the snapshot, where it lies, and its state when it was seen."""

    path: str
    disk: str
    mode: int
    stamp: Stamp

    @property
    def size(self) -> int:
        return self.stamp.size


@dataclass(frozen=True)
class Plan:
    """What an upload would send, sorted by path. ``left_out`` names only what looks secret."""

    files: tuple[SourceFile, ...]
    folders: tuple[DirEntry, ...]
    links: tuple[LinkEntry, ...]
    left_out: tuple[LeftOut, ...]

    @cached_property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def file_count(self) -> int:
        return len(self.files)


def plan_folder(
    source: Path, ignore: IgnoreRules | None = None, *, keep_name: bool = False
) -> Plan:
    """What an upload of this folder (or single file) would send.

    Args:
        source: The folder or file.
        ignore: What to leave out; None takes everything.
        keep_name: Whether the folder's own name is the first part of every path.

    Raises:
        NotFoundError: there is no such folder or file.
        UnsafePathError: a link leads out, or a name is not UTF-8.
        PeriFlowError: it holds something that is neither file, folder nor link.
    """
    path = Path(os.path.abspath(source))  # noqa: PTH100 - a link keeps its own name
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"There is no file or folder {source}.", code="path_not_found", data={"path": path}
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        return plan_files({path.name: path.resolve()})
    if keep_name and not path.name:
        raise UsageError("The root folder has no name to keep; add a slash to send its contents.")
    walk = _Walk(path, ignore or _NOTHING_LEFT_OUT)
    walk.visit(path.name if keep_name else "", _mode(status) if keep_name else None)
    return walk.plan()


def plan_files(files: Mapping[str, Path]) -> Plan:
    """A plan of single files, each with the path that it gets in the snapshot.

    Raises:
        UnsafePathError: a path is not a plain relative one.
        PeriFlowError: something is missing or not a regular file.
    """
    found = []
    for path in sorted(files):
        check_path(path)
        disk = os.fspath(files[path])
        try:
            status = os.lstat(disk)
        except FileNotFoundError as error:
            raise NotFoundError(f"There is no file {disk}.", code="path_not_found") from error
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(path, status.st_mode)
        found.append(SourceFile(path, disk, _mode(status), Stamp.of(status)))
    return Plan(tuple(found), (), (), ())


class _Walk:
    def __init__(self, source: Path, rules: IgnoreRules) -> None:
        self._source = source
        self._rules = rules
        self._files: list[SourceFile] = []
        self._folders: list[DirEntry] = []
        self._links: list[LinkEntry] = []
        self._left_out: list[LeftOut] = []

    def visit(self, name: str, mode: int | None) -> None:
        """Walk the source; ``name`` is the first part of every path, if it has one."""
        pending = [("", name, self._source, mode, IgnoreScope(self._rules))]
        while pending:
            inner, path, disk, mode, scope = pending.pop()
            children = _children(disk)
            inside = scope.enter(inner, disk, [child.name for child in children])
            kept = 0
            for child in children:
                below = f"{inner}/{child.name}" if inner else child.name
                if self._is_left_out(child, below, inside):
                    continue
                full = f"{path}/{child.name}" if path else child.name
                try:
                    status = child.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                kept += 1
                if stat.S_ISDIR(status.st_mode):
                    check_path(full)
                    pending.append((below, full, Path(child.path), _mode(status), inside))
                else:
                    self._take(full, below, child.path, status)
            if path and mode is not None and (not kept or mode != _PLAIN_FOLDER_MODE):
                self._folders.append(DirEntry(path, mode))

    def plan(self) -> Plan:
        return Plan(
            tuple(sorted(self._files, key=lambda file: file.path)),
            tuple(sorted(self._folders, key=lambda folder: folder.path)),
            tuple(sorted(self._links, key=lambda link: link.path)),
            tuple(self._left_out),
        )

    def _is_left_out(self, child: os.DirEntry[str], path: str, scope: IgnoreScope) -> bool:
        if secret := scope.secret(path):
            self._left_out.append(secret)
            return True
        is_folder = child.is_dir(follow_symlinks=False)
        return scope.ignores(path, Path(child.path), is_folder=is_folder)

    def _take(self, path: str, inner: str, disk: str, status: os.stat_result) -> None:
        check_path(path)
        if stat.S_ISREG(status.st_mode):
            self._files.append(SourceFile(path, disk, _mode(status), Stamp.of(status)))
        elif stat.S_ISLNK(status.st_mode):
            target = os.readlink(disk)  # noqa: PTH115 - the text as it is
            _check_source_link(inner, target)
            self._links.append(LinkEntry(path, target))
        else:
            raise _not_a_file(path, status.st_mode)


def _children(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda child: child.name)
    except PermissionError as error:
        raise unreadable(os.fspath(folder)) from error


def _check_source_link(path: str, target: str) -> None:
    try:
        check_link(path, target)
    except UnsafePathError as error:
        raise UnsafePathError(
            error.message,
            hint=f"Replace it by what it points to, or leave it out: `echo /{path} >> .pfignore`.",
            data=error.data,
        ) from None


def unreadable(disk: str) -> PeriFlowError:
    """The error for something the user may not read."""
    return PeriFlowError(
        f"{disk} cannot be read.", code="unreadable", hint=f"Look at `ls -ld {disk!r}`."
    )


def _not_a_file(path: str, mode: int) -> PeriFlowError:
    kind = _KINDS.get(stat.S_IFMT(mode), "nothing that can be stored")
    return PeriFlowError(
        f"{path!r} is {kind}; only files, folders and links can be stored.",
        code="not_a_file",
        hint="Remove it or name it in .pfignore.",
        data={"path": path},
    )


def _mode(status: os.stat_result) -> int:
    return stat.S_IMODE(status.st_mode) & 0o777
