"""Jobs on a real server, run by real agents; node folders looked into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from job_run import SECONDS, client, run, run_on
from waiting import wait_until

__all__ = ["client", "run", "run_on"]


@pytest.fixture(name="until", scope="session")
def _until() -> Callable[..., Any]:
    """Polls a condition: its first true value, or a failure after a while."""
    return lambda condition, explain="timed out", seconds=SECONDS: wait_until(
        condition, seconds, explain
    )
