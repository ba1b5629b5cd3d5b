"""The chunks of a store on this machine, read and written as files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import struct
from pathlib import Path

from periflow_sdk.api.models import ChunkLocation
from periflow_sdk.snapshots.wire import is_loopback

_FICLONERANGE = 0x4020940D
# Linux takes memory for 1 MiB and more from large free blocks. A virtual machine may have lent them
# to its host, and gets them back at ten times the price of the write.
_WRITTEN_AT_ONCE = 512 * 1024
_BLOCK_BYTES = 4096  # what disks and file systems want offsets and lengths to be multiples of


def local_chunk(location: ChunkLocation, server: str) -> Path | None:
    """The file of a chunk where it may be touched directly, else None.

    Only a server on this machine is believed, and only a path that could be nothing but a chunk:
    named by its hash, in a folder that belongs to this user.

    Args:
        location: What the server announced.
        server: The server's address.
    """
    if location.path is None or not is_loopback(server):
        return None
    path = Path(location.path)
    if not path.is_absolute() or ".." in path.parts or path.name != location.hash:
        return None
    if path.parent.name != location.hash[:2]:
        return None
    return path if _is_own_folder(path.parent) else None


def write_chunk(path: Path, body: memoryview, *, is_gentle: bool = False) -> None:
    """Write a chunk that appears whole; one that is there already stays.

    What is written is the memory that was hashed, not the file it came from: a clone of the file
    could differ from its hash by a write in between.

    Args:
        is_gentle: Go past the page cache where that can be: it takes no processor and no memory
            from others, and as long as the disk needs.

    Raises:
        OSError: it could not be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            done = _write_past_cache(descriptor, body) if is_gentle else 0
            write_all(descriptor, body[done:], done)
        finally:
            os.close(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_chunk(path: Path, size: int) -> int | None:
    """A descriptor of a whole chunk of this user, or None when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and status.st_size == size:
        return descriptor
    os.close(descriptor)
    return None


def write_all(descriptor: int, body: memoryview, offset: int) -> None:
    """Write every byte at an offset of the file.

    Raises:
        OSError: the disk is full or broken.
    """
    done = 0
    while done < body.nbytes:
        piece = body[done : done + _WRITTEN_AT_ONCE]
        done += os.pwrite(descriptor, piece, offset + done)


def _write_past_cache(descriptor: int, body: memoryview) -> int:
    """Write whole blocks from the file's start straight to the disk; how many bytes."""
    flag = getattr(os, "O_DIRECT", 0)
    length = body.nbytes - body.nbytes % _BLOCK_BYTES
    if not flag or not length:
        return 0
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | flag)
        return os.pwrite(descriptor, body[:length], 0)
    except OSError as error:
        if error.errno != errno.EINVAL:  # how a file system says that it cannot
            raise
        return 0
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)


def read_all(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill the buffer from an offset of the file; the bytes read, fewer at its end."""
    done = 0
    while done < buffer.nbytes:
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def clone_range(source: int, target: int, offset: int, length: int) -> bool:
    """Share the first ``length`` bytes of a file with another one, where the disk can do that.

    Args:
        source: Descriptor to read from, from its start.
        target: Descriptor to write to, at ``offset``.
    """
    try:
        request = struct.pack("=qQQQ", source, 0, length, offset)
        fcntl.ioctl(target, _FICLONERANGE, request)
    except OSError:
        return False
    return True


def _is_own_folder(folder: Path) -> bool:
    try:
        status = os.lstat(folder)
    except FileNotFoundError:
        return _make_shard(folder)
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    )


def _make_shard(folder: Path) -> bool:
    """Make a missing `<hash[:2]>` folder where the project's folder is there and this user's."""
    if len(folder.name) != 2 or not folder.parent.is_dir() or not _is_own_folder(folder.parent):
        return False
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return False
    return True
