"""Which start of the machine this is: what was not written back before a crash is gone after it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> str:
    """A word that is another one after each start of the machine; "unknown" where there is none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"
