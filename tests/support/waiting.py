"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_until(
    condition: Callable[[], Any],
    seconds: float = 90,
    explain: Callable[[], str] | str = "it did not happen in time",
) -> Any:
    """The condition's first true value; fails with the explanation after so many seconds.

    Whoever is waited for needs the machine too: asking takes a tenth of the time at most.
    """
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if value := condition():
            return value
        if asked > deadline:
            raise AssertionError(explain() if callable(explain) else explain)
        time.sleep(min(max(0.02, 9 * (time.monotonic() - asked)), 1))
