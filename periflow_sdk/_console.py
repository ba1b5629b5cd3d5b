"""The one line on stderr that the SDK may say to the person who runs the script."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Write one line to stderr, if there is one.

    Not the warnings module: its filters can turn a warning into an exception in the loop.
    """
    try:
        sys.stderr.write(f"PeriFlow: {line}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # closed, or None under pythonw
        pass
