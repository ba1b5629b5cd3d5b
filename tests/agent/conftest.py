"""Jobs on a real server, run by real agents; node folders looked into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from job_run import client, run, run_on, until

__all__ = ["client", "run", "run_on"]


@pytest.fixture(name="until", scope="session")
def _until() -> Callable[..., Any]:
    """Polls a condition: its first true value, or a failure after a while."""
    return until
