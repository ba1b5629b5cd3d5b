"""Which start of the machine this is: what was not written back before a crash is gone after it."""

from __future__ import annotations

import time
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


@cache
def started_at() -> float:
    """When the machine was started, in unix seconds; 0 where that is not known."""
    if boot_id() == "unknown":
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
