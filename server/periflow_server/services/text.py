"""Raw output cut into lines that have a place and a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

LONGEST_LINE = 64 * 1024
"""Longer lines are given in pieces of so many bytes."""

Mark = tuple[int, float]
"""From this offset on, bytes arrived at this moment (unix seconds)."""


@dataclass(frozen=True)
class Piece:
    """Consecutive bytes from ``offset`` on, with the marks of the batches they came in."""

    offset: int
    data: bytes
    marks: list[Mark]


@dataclass(frozen=True)
class Line:
    """A line without its newline; ``end`` is the offset behind it."""

    text: str
    time: float
    end: int


def lines(pieces: Iterable[Piece], offset: int, *, ended: bool) -> Iterator[Line]:
    """The lines from ``offset`` on, which must be where a line starts.

    Args:
        pieces: Without gaps, the first of them holds ``offset``.
        ended: Whether nothing will follow: an unfinished last line is given only then.
    """
    rest = b""
    time = 0.0
    for piece in pieces:
        data = rest + piece.data[max(0, offset + len(rest) - piece.offset) :]
        position = 0
        while (end := _line_end(data, position)) is not None:
            time = _time_at(piece.marks, offset, time)
            offset += end - position
            yield Line(_text(data[position:end]), time, offset)
            position = end
        rest = data[position:]
        time = _time_at(piece.marks, offset, time)
    if ended and rest:
        yield Line(_text(rest), time, offset + len(rest))


def _line_end(data: bytes, start: int) -> int | None:
    """Where the line from ``start`` on ends, newline included; None if that is not known yet."""
    newline = data.find(b"\n", start, start + LONGEST_LINE)
    if newline >= 0:
        return newline + 1
    if len(data) - start <= LONGEST_LINE:
        return None
    end = start + LONGEST_LINE
    if data[end : end + 1] == b"\n":
        return end + 1
    for cut in range(end, end - 4, -1):
        if data[cut] & 0xC0 != 0x80:  # not inside a character of several bytes
            return cut
    return end


def _text(data: bytes) -> str:
    return data.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "replace")


def _time_at(marks: list[Mark], offset: int, before: float) -> float:
    """The moment at which the byte at ``offset`` arrived."""
    index = bisect_right(marks, (offset, inf)) - 1
    return marks[index][1] if index >= 0 else before
