"""Text of others made safe for a terminal, which obeys what it is sent."""

from __future__ import annotations

import re

# Titles, device strings and the like end with BEL or ST; a torn one ends with its line.
_ESCAPES = re.compile(
    r"(\x1b\[[0-9;:]*m)"  # a colour: the only one that stays
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)


def harmless(text: str) -> str:
    """The text without control characters, but for tabs, line ends and colours."""
    return _ESCAPES.sub(r"\1", text)


_CONTROLS = {number: repr(chr(number))[1:-1] for number in (*range(32), *range(0x7F, 0xA0))}


def one_line(text: str) -> str:
    """A name as one line: control characters, line ends among them, are shown as Python does."""
    return text.translate(_CONTROLS)


def printable(text: str) -> str:
    """The text without any control character but tabs and line ends."""
    return _ESCAPES.sub("", text)
