"""Trying for ever: the control plane may be away for hours, the training goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from periflow_sdk.errors import (
    ApiError,
    LoginRequiredError,
    PeriFlowError,
    ServerUnreachableError,
)

T = TypeVar("T")
_log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0


class SupersededError(PeriFlowError):
    """The control plane has given this node's work to another attempt, or ended it."""

    default_code = "attempt_superseded"


class LeavingError(PeriFlowError):
    """The agent was told to leave while it waited for the control plane."""

    default_code = "leaving"


class Backoff:
    """Pauses that double from one failure to the next, until a success."""

    def __init__(self, wake: threading.Event | None = None) -> None:
        self._wake = wake or threading.Event()
        self._seconds = FIRST_PAUSE

    def pause(self) -> None:
        """Wait; the event given ends the wait early."""
        self._wake.wait(self._seconds)
        self._seconds = min(self._seconds * 2, LONGEST_PAUSE)

    def reset(self) -> None:
        """After a success."""
        self._seconds = FIRST_PAUSE


def is_passing(error: Exception) -> bool:
    """Whether trying again may help: no answer, or an answer that the server is in trouble.

    A 401 is no verdict on the attempt: while the control plane is away, another process may
    answer on its port, and a superseded attempt is told so by its own code.
    """
    return (
        isinstance(error, (ServerUnreachableError, LoginRequiredError)) or type(error) is ApiError
    )


def is_superseded(error: PeriFlowError) -> bool:
    """Whether the error means that this attempt may say nothing more."""
    return error.code == SupersededError.default_code


def check_superseded(error: PeriFlowError) -> None:
    """Raise SupersededError where the error means that."""
    if is_superseded(error):
        raise SupersededError(error.message) from error


def for_ever(
    call: Callable[[], T],
    wake: threading.Event | None = None,
    leave: Callable[[], bool] = lambda: False,
) -> T:
    """The answer of ``call``, tried until the control plane gives one.

    Args:
        wake: Ends a pause early; the call is tried again.
        leave: True when the answer is no longer wanted.

    Raises:
        SupersededError: this attempt may say nothing more.
        LeavingError: ``leave`` said so.
        PeriFlowError: what the control plane refused for good.
    """
    backoff = Backoff(wake)
    while True:
        try:
            return call()
        except PeriFlowError as error:
            check_superseded(error)
            if not is_passing(error):
                raise
            if leave():
                raise LeavingError(
                    "The control plane is away; the agent was told to leave."
                ) from error
            _log.warning("%s; trying again", error)
            backoff.pause()
