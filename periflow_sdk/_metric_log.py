"""The lines that metric() writes, in a job and outside one."""

from __future__ import annotations

import time

from ._tensors import LateValues
from ._values import LARGEST, encode_string, encode_value
from .errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_now_ns = time.time_ns


class MetricLog:
    """Writes one line of JSON for the values of each metric() call.

    In a training loop every cache is cold, and what counts is how little code a call touches:
    metric() is one flat function, and times are integers with an exponent ("17e-3" is JSON),
    since printing them as floats would cost as much as the write.

    Args:
        shape: What stands before the step, the time and the values, and at the end of a line.
        append: Takes the line.
    """

    def __init__(self, shape: tuple[str, str, str, str], append: Callable[[bytes], object]) -> None:
        self.late = LateValues()
        self._shape = shape
        self._append = append
        self._keys = _Keys()

    def metric(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the values of one metric() call.

        Raises:
            UsageError: A name or a value is not one that metric() takes; nothing is written.
        """
        if self.late.waiting:
            self.drain()
        self._write(step, _now_ns() // 1_000_000, values)

    def drain(self) -> None:
        """Write the values that have arrived from a GPU, each with the step it was given at."""
        for step, milliseconds, values in self.late.arrived():
            self._write(step, milliseconds, values)

    def _write(self, step: int, milliseconds: int, values: Mapping[str, Any]) -> None:
        keys = self._keys
        parts = []
        fetched = None
        for key, value in values.items():
            if value.__class__ is float and -LARGEST <= value <= LARGEST:
                parts.append(keys[key] + repr(value))
                continue
            name = keys[key]
            text = encode_value(key, value)
            if text is not None:
                parts.append(name + text)
            else:
                fetched = fetched or {}
                fetched[key] = value
        if parts:
            start, time_is, values_are, end = self._shape
            body = ",".join(parts)
            line = f"{start}{step}{time_is}{milliseconds}e-3{values_are}{body}{end}"
            self._append(line.encode())
        if fetched:
            self.late.add(step, milliseconds, fetched)


class _Keys(dict[str, str]):
    """Metric names as JSON with their colon, encoded once."""

    def __missing__(self, key: object) -> str:
        if not isinstance(key, str):
            raise UsageError(
                f"metric() got the name {key!r}; names are strings",
                hint='pf.metric({"loss": loss})',
            )
        if len(self) > 10_000:  # names made per step must not fill the memory
            self.clear()
        text = self[key] = encode_string(key) + ":"
        return text
