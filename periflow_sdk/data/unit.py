"""One unit of the node's cache on the disk: whether it is whole, how large it is, how it goes."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from periflow_sdk._boot import boot_id, started_at

LOCK, SIZE, ABOUT = ".lock", ".size", ".about"


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit as it lies there.

    ``used_at`` is in unix seconds, ``size`` in bytes on the disk; ``about`` says what a whole
    folder is, and nothing of a single file or what is on its way.
    """

    folder: Path
    size: int
    used_at: float
    about: str = ""


def remove(folder: Path) -> bool:
    """Remove a unit that nobody fetches or uses."""
    guards: list[int] = []
    try:
        units = [entry for entry in children(folder) if not entry.name.startswith(".")]
        for entry in (folder / LOCK, *units):
            guards.append(os.open(entry, os.O_RDONLY | os.O_CLOEXEC))
            fcntl.flock(guards[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The lock goes last and with it the folder: nobody can begin anew in between.
        for entry in children(folder):
            if entry.name != LOCK:
                delete(entry)
        (folder / LOCK).unlink()
        with suppress(OSError):  # somebody has come and makes a new lock just now
            folder.rmdir()
        return True
    except OSError:
        return False
    finally:
        for guard in guards:
            os.close(guard)


def delete(path: Path) -> None:
    """Remove a file, or a folder with all that it holds."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    shutil.rmtree(path, onerror=_open_and_retry)


def _open_and_retry(function: Callable[[str], object], path: str, _: object) -> None:
    """A dataset may have folders that cannot be written to."""
    Path(path).parent.chmod(0o700)
    if Path(path).is_dir() and not Path(path).is_symlink():
        Path(path).chmod(0o700)
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def measure(folder: Path) -> Unit:
    """A unit as it lies there, whole or not."""
    size, used_at = 0, folder.stat().st_mtime
    for entry in children(folder):
        status = entry.lstat()
        if entry.name in (LOCK, SIZE, ABOUT):
            continue
        if not entry.name.startswith("."):
            used_at = status.st_mtime
        if stat.S_ISDIR(status.st_mode):
            size += _folder_size(folder, entry)
        else:
            size += status.st_blocks * 512
    about = ""
    with suppress(OSError):
        about = (folder / ABOUT).read_text(encoding="utf-8")
    return Unit(folder, size, used_at, about)


def _folder_size(folder: Path, tree: Path) -> int:
    if not tree.name.startswith("."):
        with suppress(OSError, ValueError):
            return int((folder / SIZE).read_text().split()[0])
    return sum(status.st_blocks * 512 for _, status in _files(tree))


def _files(tree: Path) -> Iterator[tuple[str, os.stat_result]]:
    for top, _, names in os.walk(tree):
        for name in names:
            path = f"{top}/{name}"
            yield path, os.lstat(path)


def is_whole_file(path: str, status: os.stat_result, size: int, *, is_sparse: bool) -> bool:
    """Whether all bytes are there; who then touches the file has this asked once after each start.

    Args:
        size: The bytes that it has to have; 0 for any.
        is_sparse: Holes are meant.
    """
    if size and status.st_size != size:
        return False
    if status.st_mtime >= started_at():
        return True
    return status.st_size > 0 and (is_sparse or not _has_hole(path, status.st_size))


def is_whole_folder(tree: Path) -> bool:
    """Whether all bytes are there, which is asked once after each start of the machine."""
    record = tree.parent / SIZE
    try:
        size, *boot = record.read_text().split()
        if boot == [boot_id()]:
            return True
        total = 0
        for path, status in _files(tree):
            if stat.S_ISREG(status.st_mode):
                total += status.st_size
                if _has_hole(path, status.st_size):
                    return False
        if total != int(size):
            return False
        record.write_text(f"{size} {boot_id()}")
    except (OSError, ValueError):
        return False
    return True


def _has_hole(path: str, size: int) -> bool:
    """Whether a part of the file was never written: a size that was set in advance outlives a
    crash of the machine, the bytes that were on their way do not.
    """
    if not size:
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.lseek(descriptor, 0, os.SEEK_HOLE) < size
    except OSError:
        return False  # this file system cannot tell
    finally:
        os.close(descriptor)


def children(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing where there is none."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
