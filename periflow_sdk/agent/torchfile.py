"""The file format of torch.save, written without torch: a zip archive of stored records."""

from __future__ import annotations

import struct
import sys
import zipfile
from collections.abc import Iterable
from typing import BinaryIO

_ALIGNMENT = 64  # what torch.load(mmap=True) expects of a tensor's bytes
_LARGE = 1 << 31
_BLOCK_BYTES = 1 << 18  # the checksum leaves it in the processor's cache for the write
_LOCAL_HEADER_BYTES, _LARGE_EXTRA_BYTES = 30, 20
_PADDING_FIELD = 0x4246
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)
_VERSION = b"3\n"


def write_torch_file(
    file: BinaryIO, name: str, skeleton: memoryview, storages: Iterable[memoryview]
) -> None:
    """Write what torch.load reads, the same bytes for the same state.

    Args:
        file: Open for writing, seekable.
        name: The folder inside the archive; torch.save takes the stem of the file's name.
        skeleton: The pickle; nothing here looks into it.
        storages: The bytes of the storages, in the order of their keys.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, f"{name}/data.pkl", skeleton)
        _add(archive, f"{name}/byteorder", memoryview(sys.byteorder.encode()))
        for key, storage in enumerate(storages):
            _add(archive, f"{name}/data/{key}", storage)
        _add(archive, f"{name}/version", memoryview(_VERSION))


def _add(archive: zipfile.ZipFile, name: str, content: memoryview) -> None:
    record = zipfile.ZipInfo(name, _FIXED_DATE)
    is_large = content.nbytes >= _LARGE
    before = archive.start_dir + _LOCAL_HEADER_BYTES + len(name.encode())
    before += _LARGE_EXTRA_BYTES if is_large else 0
    padding = -(before + 4) % _ALIGNMENT
    record.extra = struct.pack("<HH", _PADDING_FIELD, padding) + b"Z" * padding
    record.file_size = content.nbytes
    with archive.open(record, "w", force_zip64=is_large) as target:
        for start in range(0, content.nbytes, _BLOCK_BYTES):
            target.write(content[start : start + _BLOCK_BYTES])
