"""The lines that metric() writes, in a job and outside one."""

from __future__ import annotations

import time

from ._console import say
from ._tensors import LateValues, number
from ._values import encode_string, encode_value
from .errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

HELD_STEPS = 32  # a process that is killed loses as many at most,
HELD_NANOSECONDS = 50_000_000  # and none that ended so long before the last one
_now_ns = time.time_ns
_clock = time.perf_counter_ns


class MetricLog:
    """Writes one line of JSON for the values of each metric() call.

    In a training loop every cache is cold, and what counts is how little code a call touches:
    metric() is one flat function, a line is one formatting of bytes by a template that calls with
    the same names share, and times are integers with an exponent ("17e-3" is JSON), since
    printing them as floats would cost as much as the write. What a framework's callback reports
    of quick steps is held and written together: thirty cost a third of what they do one by one.

    Attributes:
        late: Values on their way from a GPU.
        held: Steps that are done and not written; see write_held().
        held_until: One that ends later, by perf_counter_ns, is not to be held.

    Args:
        start: How a line begins: a template that takes the step and unix milliseconds.
        end: How it ends, after names and values.
        append: Takes a line, or several and how many they are.
    """

    def __init__(self, start: str, end: str, append: Callable[..., object]) -> None:
        self.late = LateValues()
        self.held: list[tuple[int, int, int, Mapping[str, Any]]] = []
        self.held_until = 0
        self._unfit: set[str] = set()
        self._append = append
        self._templates = Templates(start, end)

    def metric(self, step: int, values: Mapping[str, Any], milliseconds: int = 0) -> None:
        """Write the values of one metric() call.

        Args:
            step: The step they belong to.
            values: Names and values.
            milliseconds: When they were given, in unix time; 0 for now.

        Raises:
            UsageError: A name or a value is not one that metric() takes; nothing is written.
        """
        if not milliseconds:
            if self.late.waiting or self.held:
                self.drain()
            milliseconds = _now_ns() // 1_000_000
        given: tuple[Any, ...] = (*values.values(),)
        for value in given:
            if value.__class__ is not float or value - value != 0.0:  # NaN and the infinities
                values = self._texts(step, milliseconds, values)
                given = (*values.values(),)
                break
        if given:
            self._append(self._templates[(*values,)] % (step, milliseconds, *given))

    def what_fits(self, step: int, values: Mapping[str, Any], milliseconds: int = 0) -> None:
        """Do metric(), but leave out what it does not take, and name that once."""
        try:
            self.metric(step, values, milliseconds)
        except UsageError:
            for name, value in values.items():
                try:
                    self.metric(step, {name: value}, milliseconds)
                except UsageError as error:
                    self._leave_out(str(name), error)

    def write_held(self) -> None:
        """Write the steps that were held: number, perf_counter_ns at the end, ns, values."""
        held, self.held = self.held, []
        if not held:
            return
        self.held_until = held[-1][1] + HELD_NANOSECONDS
        epoch = _now_ns() - _clock()
        lines: list[bytes] = []
        for step, ended_at, nanoseconds, values in held:
            milliseconds = (epoch + ended_at) // 1_000_000
            floats = _floats(values)
            if floats is not None:
                lines.append(self._step_line(step, milliseconds, nanoseconds, values, floats))
                continue
            lines.append(self._step_line(step, milliseconds, nanoseconds, {}, []))
            self._append_steps(lines)
            lines.clear()
            numbers = {name: number(value) for name, value in values.items()}
            self.what_fits(step, numbers, milliseconds)
        self._append_steps(lines)

    def _step_line(
        self,
        step: int,
        milliseconds: int,
        nanoseconds: int,
        names: Iterable[str],
        values: list[float],
    ) -> bytes:
        """What is kept of a step that is done and of its values, all of them finite."""
        return self._templates[(*names,)] % (step, milliseconds, *values) if values else b""

    def _append_steps(self, lines: list[bytes]) -> None:
        text = b"".join(lines)
        if text:
            self._append(text, text.count(b"\n"))

    def drain(self) -> None:
        """Write what was held, and the values that have arrived from a GPU by now."""
        if self.held:
            self.write_held()
        for step, milliseconds, values in self.late.arrived():
            self.metric(step, values, milliseconds)

    def _leave_out(self, name: str, error: UsageError) -> None:
        if name not in self._unfit:
            self._unfit.add(name)
            say(f"{name!r} is not recorded: {error.message}.")

    def _texts(self, step: int, milliseconds: int, values: Mapping[str, Any]) -> dict[str, _Text]:
        """The values as JSON; those on a GPU are fetched, to be written when they arrive."""
        texts = {}
        fetched = {}
        for key, value in values.items():
            _check_name(key)
            text = encode_value(key, value)
            if text is None:
                fetched[key] = value
            else:
                texts[key] = _Text(text)
        if fetched:
            self.late.add(step, milliseconds, fetched)
        return texts


def _floats(values: Mapping[str, Any]) -> list[float] | None:
    """The values if all are finite floats, or tensors of one that need no wait; else None."""
    floats = []
    for name, value in values.items():
        if value.__class__ is not float:
            value = number(value)
        if value.__class__ is not float or value - value != 0.0 or name.__class__ is not str:
            return None
        floats.append(value)
    return floats


class _Text(str):
    """JSON text that a template prints as it is, as it prints a float."""

    __slots__ = ()
    __repr__ = str.__str__


class Templates(dict[tuple[str, ...], bytes]):
    """For each tuple of names, the line with places for step, milliseconds and values."""

    def __init__(self, start: str, end: str) -> None:
        super().__init__()
        self._start = start
        self._end = end

    def __missing__(self, names: tuple[str, ...]) -> bytes:
        for name in names:
            _check_name(name)
        if len(self) >= 1_000:  # names made per step must not fill the memory
            self.clear()
        places = ",".join(encode_string(name).replace("%", "%%") + ":%a" for name in names)
        template = self[names] = (self._start + places + self._end).encode()
        return template


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise UsageError(
            f"metric() got the name {name!r}; names are strings",
            hint='pf.metric({"loss": loss})',
        )
