"""A download under way: the folder beside the target that becomes the target when it is whole."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from blake3 import blake3

from periflow_sdk._boot import boot_id
from periflow_sdk.errors import PeriFlowError, UsageError
from periflow_sdk.snapshots.chunkread import Write
from periflow_sdk.snapshots.manifest import DirEntry, LinkEntry, Manifest
from periflow_sdk.snapshots.store import clone_range, read_all, write_all

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_BLOCK_BYTES = 4096
_WORTH_CLONING_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Placement:
    """``length`` bytes at ``start`` of a chunk belong at ``offset`` of the file ``path``."""

    path: str
    offset: int
    start: int
    length: int


class PartialFolder:
    """`.<name>.part/` beside the target: the growing tree, and which chunks are in it already.

    Links are made last and nothing else lies below a link, so no write can be led elsewhere. The
    folder is closed to other users until its tree is renamed.

    Args:
        target: What shall appear.
        manifest: What it shall hold; a part of another snapshot is thrown away.

    Raises:
        UsageError: the target is there and not an empty folder (``target_exists``).
        PeriFlowError: another process downloads to the same target (``download_running``).
    """

    def __init__(self, target: Path, manifest: Manifest) -> None:
        self.target = Path(os.path.abspath(target))  # noqa: PTH100 - links are not followed
        self._manifest = manifest
        self._lock = threading.Lock()
        self._clones = True
        self.folder = self.target.with_name(f".{self.target.name}.part")
        self._tree = self.folder / "tree"
        self.placements = _placements(manifest)
        check_target(self.target)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._guard = self._hold()
        try:
            self.finished = self._remembered()
            self._state = self._open_state()
        except BaseException:
            os.close(self._guard)
            raise

    def __enter__(self) -> PartialFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or not self.finished:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._state)
        os.close(self._guard)

    def missing_bytes(self) -> int:
        """Disk space that the rest will take."""
        total = 0
        for entry in self._manifest.files:
            needed = -(-entry.size // _BLOCK_BYTES) * _BLOCK_BYTES
            try:
                needed -= os.lstat(self._disk(entry.path)).st_blocks * 512
            except FileNotFoundError:
                pass
            total += max(0, needed)
        return total

    def prepare(self) -> None:
        """Make the folders and the empty files, and reserve the space of those in many chunks."""
        for path in sorted(_folders(self._manifest)):
            if not os.path.isdir(self._disk(path)):  # noqa: PTH112 - thousands of them
                os.mkdir(self._disk(path), 0o700)  # noqa: PTH102
        for entry in self._manifest.files:
            if len(entry.extents) != 1:
                descriptor = self._open(entry.path)
                try:
                    if os.fstat(descriptor).st_size != entry.size:
                        _reserve(descriptor, entry.size)
                finally:
                    os.close(descriptor)

    def write(self, number: int, content: memoryview, source: int | None = None) -> None:
        """Put a verified chunk wherever it belongs, and remember that it is there.

        Args:
            number: Which chunk of the manifest.
            content: Its bytes.
            source: Descriptor of a file with the same bytes, to be shared where that works.

        Raises:
            OSError: the disk is full or broken.
        """
        for place in self.placements[number]:
            descriptor = self._open(place.path)
            try:
                if source is None or not self._clone(source, descriptor, place):
                    body = content[place.start : place.start + place.length]
                    write_all(descriptor, body, place.offset)
            finally:
                os.close(descriptor)
        self._finish(number)

    def pour(self, number: int) -> AbstractContextManager[Write] | None:
        """A block in which a chunk is written while it comes; None for one of which only parts are
        wanted, or in several places.

        The chunk is remembered when the block ends without an error: until then its bytes may be
        wrong, and are written again.
        """
        places, size = self.placements[number], self._manifest.chunks[number].size
        if len(places) == 1 and places[0].length == size:
            return self._poured(number, places[0])
        return None

    @contextmanager
    def _poured(self, number: int, place: Placement) -> Iterator[Write]:
        descriptor = self._open(place.path)
        try:
            yield lambda piece, position: write_all(descriptor, piece, place.offset + position)
        finally:
            os.close(descriptor)
        self._finish(number)

    def _finish(self, number: int) -> None:
        with self._lock:
            self.finished.add(number)
            os.write(self._state, b"%d\n" % number)

    def publish(self) -> None:
        """Make the links, restore the modes and let the target appear."""
        for entry in self._manifest.entries:
            if isinstance(entry, LinkEntry):
                self._link(entry)
        for file in self._manifest.files:
            os.chmod(self._disk(file.path), file.mode)  # noqa: PTH101
        folders = _folders(self._manifest)
        for path in sorted(folders, reverse=True):
            os.chmod(self._disk(path), folders[path])  # noqa: PTH101
        check_target(self.target)
        self._tree.rename(self.target)

    def _link(self, entry: LinkEntry) -> None:
        disk = self._disk(entry.path)
        if not os.path.islink(disk):  # noqa: PTH114
            os.symlink(entry.target, disk)  # noqa: PTH211

    def _clone(self, source: int, descriptor: int, place: Placement) -> bool:
        if place.start or place.length < _WORTH_CLONING_BYTES or not self._clones:
            return False
        self._clones = clone_range(source, descriptor, place.offset, place.length)
        return self._clones

    def _disk(self, path: str) -> str:
        return f"{self._tree}/{path}"

    def _open(self, path: str) -> int:
        return os.open(self._disk(path), _FLAGS | os.O_CREAT, 0o600)

    def _hold(self) -> int:
        """Take the folder for this process."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        status = os.lstat(self.folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise PeriFlowError(
                f"{self.folder} is in the way and belongs to somebody else.",
                code="target_exists",
                hint="Choose another target.",
            )
        self.folder.chmod(0o700)
        guard = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(guard)
            raise PeriFlowError(
                f"Another process is downloading to {self.target} just now.",
                code="download_running",
                hint="Wait for it or choose another target.",
            ) from error
        return guard

    def _remembered(self) -> set[int]:
        """The chunks that an earlier, interrupted download of the same snapshot has left."""
        header, numbers = self._read_state()
        if header.get("snapshot") != self._manifest.id or not self._tree.is_dir():
            self._clear()
            return set()
        if header.get("boot") == boot_id():
            return numbers
        # The machine went down in between: what was remembered may never have reached the disk.
        return {number for number in numbers if self._holds(number)}

    def _read_state(self) -> tuple[dict[str, str], set[int]]:
        try:
            first, *rest = (self.folder / "state").read_bytes().split(b"\n")
            header = json.loads(first)
            count = len(self.placements)
            # What follows the last newline is empty, or torn.
            numbers = {int(line) for line in rest[:-1]}
        except (OSError, ValueError):
            return {}, set()
        return header, {number for number in numbers if 0 <= number < count}

    def _clear(self) -> None:
        for child in self.folder.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
        self._tree.mkdir()

    def _open_state(self) -> int:
        header = json.dumps({"snapshot": self._manifest.id, "boot": boot_id()})
        lines = [header, *map(str, sorted(self.finished)), ""]
        fresh = self.folder / "state.new"
        fresh.write_text("\n".join(lines))
        path = fresh.rename(self.folder / "state")
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _holds(self, number: int) -> bool:
        """Whether the files have this chunk's bytes, read again."""
        digest = blake3()
        position = 0
        for place in self.placements[number]:
            content = bytearray(place.length)
            try:
                descriptor = os.open(self._disk(place.path), os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                return False
            try:
                read_all(descriptor, memoryview(content), place.offset)
            finally:
                os.close(descriptor)
            if place.start == position:
                digest.update(content)
                position += place.length
        return digest.hexdigest() == self._manifest.chunks[number].hash


def check_target(target: Path) -> None:
    """Refuse a target that is there already, unless it is an empty folder."""
    if not os.path.lexists(target):
        return
    if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
        return
    raise UsageError(
        f"{target} is there already.",
        code="target_exists",
        hint="Choose another folder or remove it first.",
        data={"path": str(target)},
    )


def _placements(manifest: Manifest) -> list[list[Placement]]:
    found: list[list[Placement]] = [[] for _ in manifest.chunks]
    for entry in manifest.files:
        offset = 0
        for extent in entry.extents:
            place = Placement(entry.path, offset, extent.offset, extent.length)
            found[extent.chunk].append(place)
            offset += extent.length
    for places in found:
        places.sort(key=lambda place: place.start)
    return found


def _folders(manifest: Manifest) -> dict[str, int]:
    """Every folder of the snapshot and its mode."""
    found: dict[str, int] = {}
    for entry in manifest.entries:
        end = entry.path.rfind("/")
        while end > 0 and entry.path[:end] not in found:
            found[entry.path[:end]] = 0o755
            end = entry.path.rfind("/", 0, end)
    for entry in manifest.entries:
        if isinstance(entry, DirEntry):
            found[entry.path] = entry.mode
    return found


def _reserve(descriptor: int, size: int) -> None:
    if not size:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        os.ftruncate(descriptor, size)
