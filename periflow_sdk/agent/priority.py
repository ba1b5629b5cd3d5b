"""What a worker takes of the machine."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

NICENESS = 19
_PR_SET_PDEATHSIG = 1


def be_humble(*, is_urgent: bool = False) -> None:
    """Give way to the training, end with the supervisor, and allow for many open files.

    Args:
        is_urgent: The node will be taken: give way to nobody.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if not is_urgent:
        os.nice(NICENESS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
