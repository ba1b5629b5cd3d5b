"""The node's cache of datasets: what one process has fetched, all others on this machine read.

    <folder>/units/<kk>/<key>/    one unit: a file or a whole folder, by what it holds
        .lock                     held by who fetches it or removes it
        .size                     the bytes of a folder that is whole, and when that was looked at
        .about                    what that folder is, in words
        <name>                    the file or folder, there only when it is whole
    <folder>/notes/               words by name: which folder of a link is the newest
    <folder>/added                bytes since the units were counted, as text; locked while changed

What a killed fetch leaves beside ``<name>`` is used by the next one. Nobody waits for the disk:
what a crash of the machine cut short is found by its size and its holes, and fetched again. Over
the limit, units go that were asked for the longest ago, but none that a process uses (see
:mod:`.pin`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache as cached
from pathlib import Path

from periflow_sdk._boot import boot_id
from periflow_sdk.data.pin import Pins, is_at
from periflow_sdk.data.unit import (
    ABOUT,
    LOCK,
    SIZE,
    Unit,
    children,
    delete,
    is_whole_file,
    is_whole_folder,
    measure,
    remove,
)
from periflow_sdk.environment import cache_environment
from periflow_sdk.errors import PeriFlowError

_LOW_WATER = 0.95
_FULL = (errno.ENOSPC, errno.EDQUOT)
_pins = Pins()


class Cache:
    """Units by key, fetched once, kept below a limit.

    Args:
        folder: Where it lies; made when something is kept.
        capacity_bytes: The limit; None for half of what the disk has for it.
    """

    def __init__(self, folder: Path, capacity_bytes: int | None = None) -> None:
        self.folder = folder
        self._capacity = capacity_bytes

    def find(self, key: str, name: str, size: int = 0, *, is_sparse: bool = False) -> Path | None:
        """The unit if it is there, pinned for this process and marked as just used.

        Args:
            size: The bytes that a file has to have; 0 for any.
            is_sparse: Holes of a file are meant: who reads it knows what is in it.
        """
        place = f"{self._place(key)}/{name}"
        try:
            status = os.stat(place)  # noqa: PTH116 - many are asked for that are not there
            path = Path(place)
            is_whole = (
                is_whole_folder(path)
                if stat.S_ISDIR(status.st_mode)
                else is_whole_file(place, status, size, is_sparse=is_sparse)
            )
        except OSError:
            return None
        if not is_whole:
            return None
        if not _pins.hold(path):
            return None
        with suppress(OSError):
            os.utime(path)
        return path

    def obtain(
        self,
        key: str,
        name: str,
        size: int,
        fill: Callable[[Path], None],
        about: str = "",
        *,
        is_sparse: bool = False,
    ) -> Path:
        """The unit, fetched by one process or thread while the others that ask for it wait.

        Args:
            key: What it holds: a hash, so that another content has another key.
            name: The file's or folder's own name.
            size: Its bytes.
            fill: Makes the path it is given appear, whole; may leave parts beside it if it fails.
            about: What a folder is, for people.
            is_sparse: See :meth:`find`.

        Raises:
            PeriFlowError: it is larger than the cache (``cache_too_small``), the disk is full
                (``disk_full``), or what ``fill`` raises.
        """
        while (path := self.find(key, name, size, is_sparse=is_sparse)) is None:
            folder = self._unit(key)
            with _disk_errors(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(folder / LOCK) as is_ours:
                if not is_ours or self.find(key, name, size, is_sparse=is_sparse):
                    continue
                self._make_room(size, folder)
                with _disk_errors(folder):
                    if os.path.lexists(folder / name):
                        delete(folder / name)
                    self._fill(fill, folder / name, size)
                    if (folder / name).is_dir():
                        (folder / SIZE).write_text(f"{size} {boot_id()}")
                        (folder / ABOUT).write_text(about, encoding="utf-8")
                _pins.hold(folder / name)
                self._account(size)
                return folder / name
        return path

    def note(self, name: str, text: str) -> None:
        """Remember a word under a name; it may be forgotten."""
        with suppress(OSError):
            folder = self.folder / "notes"
            folder.mkdir(exist_ok=True)
            temporary = folder / f".{name}.{os.getpid()}"
            temporary.write_text(text)
            temporary.replace(folder / name)

    def noted(self, name: str) -> str | None:
        """What was remembered under a name."""
        try:
            return (self.folder / "notes" / name).read_text()
        except OSError:
            return None

    def units(self) -> Iterator[Unit]:
        """Every unit, whole or not."""
        for shard in children(self.folder / "units"):
            for folder in children(shard):
                with suppress(OSError):
                    yield measure(folder)

    @property
    def capacity_bytes(self) -> int:
        """The limit, as it is now."""
        return self._capacity if self._capacity is not None else self._half_of_the_disk()

    def clear(self) -> int:
        """Remove all that no process uses; the bytes that were freed."""
        return self.shrink(0)

    def shrink(self, limit: int) -> int:
        """Remove units until the rest is below a limit, the longest unused first.

        Returns:
            The bytes that were freed.
        """
        units = sorted(self.units(), key=lambda unit: unit.used_at)
        total = sum(unit.size for unit in units)
        freed = 0
        for unit in units:
            if total - freed <= limit:
                break
            freed += unit.size if remove(unit.folder) else 0
        with suppress(OSError), _locked(self.folder / "added"):
            self._set_added(total - freed)
        return freed

    def _unit(self, key: str) -> Path:
        return Path(self._place(key))

    def _place(self, key: str) -> str:
        return f"{self.folder}/units/{key[:2]}/{key}"

    def _make_room(self, size: int, folder: Path) -> None:
        capacity = self.capacity_bytes
        if size > capacity:
            raise PeriFlowError(
                f"{_decimal(size)} do not fit into the cache {self.folder}, which may hold "
                f"{_decimal(capacity)}.",
                code="cache_too_small",
                hint="Set PERIFLOW_CACHE_BYTES to more or PERIFLOW_CACHE_DIR to a larger disk, or "
                "read less at once: single files by dataset.open(), pieces of them by dataset.fs, "
                "samples by periflow_sdk.data.stream().",
                data={"size": size, "capacity": capacity},
            )
        if self._added() + size > capacity:
            # Its own leftovers count and stay: this process holds their lock.
            self.shrink(int(max(0, capacity * _LOW_WATER - size)))

    def _fill(self, fill: Callable[[Path], None], target: Path, size: int) -> None:
        """Fill, and once more after others made room, where the disk is fuller than the limit."""
        try:
            fill(target)
        except (OSError, PeriFlowError) as error:
            is_full = getattr(error, "errno", None) in _FULL or _code(error) == "disk_full"
            used = sum(unit.size for unit in self.units())
            if not is_full or not self.shrink(max(0, used - size)):
                raise
            fill(target)

    def _account(self, size: int) -> None:
        with suppress(OSError), _locked(self.folder / "added"):
            self._set_added(self._added() + size)

    def _added(self) -> int:
        try:
            return int((self.folder / "added").read_text() or 0)
        except (OSError, ValueError):
            return 0

    def _set_added(self, size: int) -> None:
        (self.folder / "added").write_text(str(size))

    def _half_of_the_disk(self) -> int:
        place = self.folder
        while not place.exists():
            place = place.parent
        disk = os.statvfs(place)
        return (disk.f_bavail * disk.f_frsize + self._added()) // 2


@cached
def node_cache() -> Cache:
    """The cache of this machine: PERIFLOW_CACHE_DIR and PERIFLOW_CACHE_BYTES."""
    environment = cache_environment()
    return Cache(environment.folder, environment.capacity_bytes)


def pin(path: Path) -> bool:
    """Keep a unit of the cache for as long as this process lives; False if it is not there."""
    return _pins.hold(path)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a unit; False if the unit was removed while this one waited for it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield is_at(descriptor, path)
    finally:
        os.close(descriptor)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise PeriFlowError(
                f"The disk of the cache {folder.parents[2]} is full.",
                code="disk_full",
                hint="Make room there, run `pf cache clear`, or set PERIFLOW_CACHE_DIR to a folder "
                "on another disk.",
            ) from error
        raise PeriFlowError(
            f"The cache cannot be written: {error.filename or folder}: {error.strerror or error}.",
            code="cache_failed",
            hint="Set PERIFLOW_CACHE_DIR to a folder that you may write to.",
        ) from error


def _code(error: Exception) -> str:
    return error.code if isinstance(error, PeriFlowError) else ""


def _decimal(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
