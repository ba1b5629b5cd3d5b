"""TensorBoard's event files: TFRecords of `Event` messages, of which four fields are needed.

The library `tensorboard` has a writer, too. It takes 0.4 s and numpy to import, and would have to
be where agents run and where `pf` runs; the format has not changed since 2016.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

_VERSION = b"brain.Event:2"
_SESSION_START = 1
_DT_STRING = 7
_WRITE_BYTES = 256 * 1024


class EventFile:
    """One event file, written to its end.

    Args:
        path: Should have `tfevents` in its name: TensorBoard reads no others.
        size: Bytes of it that count; what a killed writer left after them is cut off.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._buffer = bytearray()
        self._size = size
        self._file = path.open("r+b" if size else "wb")
        self._file.truncate(size)
        self._file.seek(size)

    def begin(self, time: float) -> None:
        """The record that every file begins with."""
        self._put(time, 0, _bytes(3, _VERSION))

    def restart(self, time: float, step: int) -> None:
        """Say that what was written of ``step`` and later steps counts no more."""
        self._put(time, step, _bytes(7, _varint_field(1, _SESSION_START)))

    def add(self, name: str, value: float | str, *, step: int, time: float) -> None:
        """One value of one metric; ``time`` in unix seconds."""
        if isinstance(value, str):
            body = _text(name, value)
        else:
            body = _bytes(1, name.encode()) + b"\x15" + struct.pack("<f", _float32(value))
        self._put(time, step, _bytes(5, _bytes(1, body)))

    def flush(self) -> int:
        """Hand everything to the system; the size of the file."""
        if self._buffer:
            self._file.write(self._buffer)
            self._file.flush()
            self._size += len(self._buffer)
            self._buffer.clear()
        return self._size

    def close(self) -> None:
        """Flush, have it on the disk, and close."""
        self.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _put(self, time: float, step: int, what: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time) + _varint_field(2, step) + what
        length = struct.pack("<Q", len(event))
        self._buffer += length + _checksum(length) + event + _checksum(event)
        if len(self._buffer) > _WRITE_BYTES:
            self.flush()


def _text(name: str, value: str) -> bytes:
    """A summary value for the text tab: a tensor of one string."""
    tensor = _varint_field(1, _DT_STRING) + _bytes(2, b"") + _bytes(8, value.encode())
    metadata = _bytes(1, _bytes(1, b"text"))
    return _bytes(1, name.encode()) + _bytes(9, metadata) + _bytes(8, tensor)


def _float32(value: float) -> float:
    """What is too large for the format's 32 bits is infinite there."""
    try:
        struct.pack("<f", value)
    except OverflowError:
        return math.copysign(math.inf, value)
    return value


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint_field(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & (1 << 64) - 1)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _table()


def _checksum(data: bytes) -> bytes:
    """CRC-32C, masked as TFRecords are."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
