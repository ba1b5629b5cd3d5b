"""Metric values as JSON text."""

from __future__ import annotations

import sys
from _json import encode_basestring_ascii

from .errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = sys.float_info.max
LONGEST_TEXT = 4096  # characters of a text value; the rest of it is left out
_ACCEPTED = "numbers, strings, bools, tensors and arrays of one element"


def encode_string(text: str) -> str:
    """A string as JSON; what UTF-8 cannot carry (lone surrogates) becomes question marks."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return encode_basestring_ascii(text)


def encode_float(value: float) -> str:
    """A float as JSON; NaN and the infinities, which JSON does not have, as strings."""
    if -LARGEST <= value <= LARGEST:
        return float.__repr__(value)
    if value != value:
        return '"NaN"'
    return '"Infinity"' if value > 0 else '"-Infinity"'


def encode_value(key: str, value: Any) -> str | None:
    """One metric value as JSON text, or None if it is on a GPU and has to be fetched.

    Args:
        key: The name it was given under, for the error.
        value: A number, a string, a bool, or a tensor, array or scalar of one element.

    Raises:
        UsageError: Anything else.
    """
    if isinstance(value, float):
        return encode_float(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value) if -(2**63) <= value < 2**63 else _encode_number(key, value)
    if isinstance(value, str):
        return encode_string(value[:LONGEST_TEXT])
    if getattr(value, "is_cuda", False) is True:
        if value.numel() != 1 or value.is_complex():
            raise _refuse(key, value)
        return None
    if callable(getattr(value, "item", None)):
        return _encode_element(key, value)
    return _encode_number(key, value)


def _encode_element(key: str, value: Any) -> str | None:
    try:
        element = value.item()
    except (ValueError, RuntimeError, TypeError):
        raise _refuse(key, value) from None
    if type(element) is type(value):
        raise _refuse(key, value)
    return encode_value(key, element)


def _encode_number(key: str, value: Any) -> str:
    if not hasattr(value, "__float__") or isinstance(value, complex):
        raise _refuse(key, value)
    try:
        return encode_float(float(value))
    except OverflowError:
        return '"Infinity"' if value > 0 else '"-Infinity"'
    except (TypeError, ValueError):
        raise _refuse(key, value) from None


def _refuse(key: str, value: object) -> UsageError:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__ + (f" of shape {tuple(shape)}" if shape else "")
    return UsageError(
        f"metric() got a {kind} for {key!r}; it takes {_ACCEPTED}",
        hint="reduce it first, for example with .mean(), or leave it out",
    )
