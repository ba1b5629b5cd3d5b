"""Lists and dicts in litdata's items: a tag, then numbers and texts of one kind, or JSON."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from periflow_sdk.errors import IntegrityError

_RECORD_TAGS = {0x10: 11, 0x11: 7, 0x12: 8, 0x13: 9}  # as the tags of single values
_RECORD_BOOL = 0x14


def read_json(data: bytes) -> Any:
    """A value of a ``json`` field, of old writers (plain JSON) and new ones.

    Raises:
        IntegrityError: It is of a kind that is not known.
    """
    if not data or data[0] > 0x20:
        return json.loads(data)
    return _Reader(data).value()


class _Reader:
    """Reads value by value from the beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def value(self) -> Any:
        return self._tagged(self._byte())

    def _tagged(self, tag: int) -> Any:
        read = self._READERS.get(tag)
        if read is None:
            raise IntegrityError(f"a json field has a value of the unknown kind {tag}")
        return read(self)

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _numbers(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return found

    def _count(self) -> int:
        return int(self._numbers("I")[0])

    def _text(self) -> str:
        length = self._count()
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def _many(self, form: str) -> list[Any]:
        return list(self._numbers(f"{self._count()}{form}"))

    def _json(self) -> Any:
        return json.loads(self._text())

    def _texts(self) -> list[str]:
        return [self._text() for _ in range(self._count())]

    def _dict(self) -> dict[str, Any]:
        return {self._text(): self.value() for _ in range(self._count())}

    def _records(self) -> list[dict[str, Any]]:
        rows = self._count()
        keys = self._texts()
        return [{key: self._field() for key in keys} for _ in range(rows)]

    def _field(self) -> Any:
        tag = self._byte()
        if tag == _RECORD_BOOL:
            return bool(self._byte())
        return self._tagged(_RECORD_TAGS.get(tag, tag))

    _READERS: dict[int, Callable[[_Reader], Any]] = {  # noqa: RUF012
        0: _json,
        1: _texts,
        2: lambda self: self._many("q"),
        3: lambda self: self._many("d"),
        4: lambda self: self._many("?"),
        5: _dict,
        6: _records,
        7: _text,
        8: lambda self: self._numbers("q")[0],
        9: lambda self: self._numbers("d")[0],
        10: lambda self: bool(self._byte()),
        11: lambda self: None,
    }
