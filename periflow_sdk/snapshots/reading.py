"""Reading source files into chunks, and noticing when one changes under way."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from blake3 import blake3

from periflow_sdk.errors import PeriFlowError
from periflow_sdk.snapshots.chunking import Cut
from periflow_sdk.snapshots.scan import SourceFile, Stamp, unreadable
from periflow_sdk.snapshots.store import read_all

_PIECE_BYTES = 256 * 1024
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def opened(file: SourceFile) -> Iterator[int]:
    """A descriptor of the file, which must be as it was planned, before and after.

    Raises:
        PeriFlowError: it changed (``file_changed``) or cannot be read (``unreadable``).
    """
    try:
        descriptor = os.open(file.disk, _FLAGS)
    except PermissionError as error:
        raise unreadable(file.disk) from error
    except OSError as error:
        raise changed(file) from error
    try:
        _check_unchanged(descriptor, file)
        yield descriptor
        _check_unchanged(descriptor, file)
    finally:
        os.close(descriptor)


def read_cut(cut: Cut, files: Sequence[SourceFile], buffer: memoryview) -> list[str]:
    """Fill the buffer with a chunk; its hash, then that of each file that it holds whole.

    Raises:
        PeriFlowError: a file changed (``file_changed``) or cannot be read (``unreadable``).
    """
    digest = blake3()
    hashes = []
    position = 0
    for part in cut.segments:
        file = files[part.file]
        body = buffer[position : position + part.length]
        position += part.length
        with opened(file) as descriptor:
            # Small pieces are hashed while the processor's cache still has them.
            for start in range(0, part.length, _PIECE_BYTES):
                piece = body[start : start + _PIECE_BYTES]
                _fill(piece, descriptor, part.offset + start, file)
                digest.update(piece)
        if part.length == file.size and len(cut.segments) > 1:
            hashes.append(blake3(body).hexdigest())
    whole = digest.hexdigest()
    if len(cut.segments) == 1 and cut.segments[0].length == files[cut.segments[0].file].size:
        hashes.append(whole)
    return [whole, *hashes]


def changed(file: SourceFile) -> PeriFlowError:
    """The error for a file that is not what it was when the upload began."""
    return PeriFlowError(
        f"{file.disk} changed while it was read, so nothing was stored.",
        code="file_changed",
        hint="Run the same command again when nothing writes to it.",
        data={"path": file.path},
    )


def _fill(buffer: memoryview, descriptor: int, offset: int, file: SourceFile) -> None:
    try:
        count = read_all(descriptor, buffer, offset)
    except OSError as error:
        raise unreadable(file.disk) from error
    if count != buffer.nbytes:
        raise changed(file)


def _check_unchanged(descriptor: int, file: SourceFile) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or Stamp.of(status) != file.stamp:
        raise changed(file)
