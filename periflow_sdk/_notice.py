"""SIGTERM to a rank: a notice that its node will be taken, not yet the end."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time

from . import _control as word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

ANSWER_SECONDS = 5.0  # the agent answers a notice within that, or it is not there
_SAME_SIGNAL_SECONDS = 2.0  # a group and a launcher may each pass on one and the same signal


class Notice:
    """Reports a SIGTERM to the agent, so that training goes on until the agreed save.

    A handler that was there before is called as if nothing had happened. Where there was none, the
    process survives the first SIGTERM as long as somebody may use it: it dies of the signal if the
    agent does not answer within 5 s, if the round is aborted or behind it, if a stop without
    a save was ordered, or at a second SIGTERM, 2 s or more after the first.

    Args:
        progress: The words that this rank writes.
        control: The words that the agent writes.
    """

    def __init__(self, progress: memoryview, control: memoryview) -> None:
        self._progress = progress
        self._control = control
        self._pid = os.getpid()
        self._is_active = False
        self._previous: object = None

    def install(self) -> None:
        """Listen from now on; outside the main thread Python does not allow it."""
        previous = signal.getsignal(signal.SIGTERM)
        if previous is None or threading.current_thread() is not threading.main_thread():
            return  # None: a handler that is not Python's cannot be called
        self._previous = previous
        self._is_active = True
        _guard_forks(self)
        signal.signal(signal.SIGTERM, self._on_signal)

    def remove(self) -> None:
        """Put back what was there before, unless somebody has taken our place meanwhile."""
        if not self._is_active:
            return
        self._is_active = False
        if (
            signal.getsignal(signal.SIGTERM) == self._on_signal
            and threading.current_thread() is threading.main_thread()
        ):
            signal.signal(signal.SIGTERM, self._previous)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        is_first = is_ours = False
        if self._is_active and self._pid == os.getpid():
            is_first = not self._progress[word.NOTICE]
            if is_first:
                self._progress[word.NOTICE] = time.time_ns() // 1_000_000
            is_ours = self._is_of_use()
        if callable(self._previous):
            self._previous(number, frame)
        elif self._previous == signal.SIG_DFL:
            if not is_ours:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGTERM)
            elif is_first:
                # Not threading.Thread: its locks may be held by what was interrupted just now.
                _thread.start_new_thread(self._expect_answer, ())

    def _is_of_use(self) -> bool:
        control, progress = self._control, self._progress
        if control[word.ABORTS] or (control[word.STOP] and not control[word.EMERGENCY]):
            return False
        if 0 < control[word.COMMITTED] < progress[word.STARTED]:
            return False
        age_seconds = time.time() - progress[word.NOTICE] / 1000
        return age_seconds < _SAME_SIGNAL_SECONDS

    def _expect_answer(self) -> None:
        end = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < end:
            if not self._is_active or any(self._control[word.EMERGENCY : word.HEARTBEAT]):
                return
            time.sleep(0.05)
        os.kill(self._pid, signal.SIGTERM)


class _Forks:
    """Gives a forked child back what SIGTERM meant before, without a gap.

    A signal that reaches a child in its first moments would find our handler, and Python would
    forget it: it is kept back until the child has the handler it shall have.
    """

    def __init__(self) -> None:
        self.notice: Notice | None = None
        self._mask: Any = None

    def hold(self) -> None:
        if self.notice is not None and self.notice._is_active:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

    def release(self) -> None:
        if self._mask is not None:
            mask, self._mask = self._mask, None
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def release_child(self) -> None:
        if self.notice is not None:
            self.notice.remove()
            self.notice = None
        self.release()


_forks: _Forks | None = None


def _guard_forks(notice: Notice) -> None:
    global _forks
    if _forks is None:
        _forks = _Forks()
        os.register_at_fork(
            before=_forks.hold,
            after_in_parent=_forks.release,
            after_in_child=_forks.release_child,
        )
    _forks.notice = notice
