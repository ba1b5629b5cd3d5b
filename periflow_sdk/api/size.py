"""Amounts of bytes as people write and read them."""

from __future__ import annotations

import re

from periflow_sdk.errors import InvalidRequestError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)b?", re.IGNORECASE)
_TOO_MANY_BYTES = (1 << 63) - 1


def parse_size(text: str) -> int:
    """Bytes of ``500GB`` and the like; powers of 1000.

    Raises:
        InvalidRequestError: it is no size (``wrong_size``).
    """
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else _TOO_MANY_BYTES
    if size >= _TOO_MANY_BYTES:
        raise InvalidRequestError(
            f"{text!r} is no size.", code="wrong_size", hint="Write it as 500GB or 2TB."
        )
    return size


def shown_size(size: int) -> str:
    """Bytes in words: ``31.0 MB``."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
