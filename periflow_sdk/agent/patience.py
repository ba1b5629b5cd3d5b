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
    """Whether trying again may help: no answer, or an answer that the server is in trouble."""
    return isinstance(error, ServerUnreachableError) or type(error) is ApiError


def is_superseded(error: PeriFlowError) -> bool:
    """Whether the error means that this attempt may say nothing more."""
    return error.code == SupersededError.default_code or isinstance(error, LoginRequiredError)


def check_superseded(error: PeriFlowError) -> None:
    """Raise SupersededError where the error means that."""
    if is_superseded(error):
        raise SupersededError(error.message) from error


def for_ever(call: Callable[[], T], wake: threading.Event | None = None) -> T:
    """The answer of ``call``, tried until the control plane gives one.

    Args:
        wake: Ends a pause early, so that a stop is not waited for; the call is tried again.

    Raises:
        SupersededError: this attempt may say nothing more.
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
            _log.warning("%s; trying again", error)
            backoff.pause()
