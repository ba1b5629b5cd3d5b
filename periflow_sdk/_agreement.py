"""A rank's part in coming to the one step at which every rank saves."""

from __future__ import annotations

import time

from . import _control as word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence

    Words = MutableSequence[int] | memoryview

SILENCE_SECONDS = 30.0  # the agent has said nothing for so long: it is gone
LONGEST_WAIT_SECONDS = 600.0  # where nobody has said when the node will be taken
_POLL_SECONDS = 0.001


class Agreement:
    """What a rank answers about its step while a round is on, and when it has to wait for that.

    A rank agrees to save at S by acknowledging S, which it may as long as it has not gone beyond
    S and has not yet told its script "no" about S. Having agreed, it does not go beyond S before
    the round is decided. It waits in S only, so whatever the other ranks need from it to come to
    S themselves it has done; and one that entered S unaware makes the decider raise S. Hence the
    wait may stand anywhere in step S, before an all-reduce too.

    Args:
        progress: The words that this rank writes.
        control: The words that the agent writes.
        now: The time in unix seconds.
        sleep: Passes a number of seconds.

    Attributes:
        refused: The last step about which the script was told "no".
    """

    __slots__ = ("_control", "_has_given_up", "_now", "_progress", "_sleep", "refused")

    def __init__(
        self,
        progress: Words,
        control: Words,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._progress = progress
        self._control = control
        self._now = now
        self._sleep = sleep
        self.refused = -1
        self._has_given_up = False

    def before_next(self, step: int) -> None:
        """The script is about to leave ``step`` behind and start the next one."""
        self._come_to_terms(step)

    def is_emergency_save(self, step: int) -> bool:
        """Whether to save at ``step``, now that the script asks."""
        if self._control[word.EMERGENCY]:
            self._come_to_terms(step)
            if self.is_committed(step):
                self._progress[word.SAVED_AT] = step
                return True
        self.refused = step
        return False

    def should_stop(self, step: int) -> bool:
        """Whether ``step`` is where the script should leave, now that it asks."""
        control = self._control
        if control[word.EMERGENCY]:
            self._come_to_terms(step)
            committed = control[word.COMMITTED]
            is_time = 0 < committed <= step or self._is_over()
        else:
            is_time = bool(control[word.STOP] or control[word.ABORTS])
        if is_time:
            self._progress[word.STOP_SEEN] = 1
        else:
            self.refused = step
        return is_time

    def is_committed(self, step: int) -> bool:
        """Whether every rank saves at ``step``; asks nobody and waits for nothing."""
        return 0 < self._control[word.COMMITTED] == step != self.refused

    def look(self, step: int) -> bool:
        """Look at the round once, and acknowledge what can be; False if it is time to wait."""
        progress, emergency = self._progress, self._control[word.EMERGENCY]
        if step > emergency or self._control[word.COMMITTED] == emergency:
            return True
        if self._is_over() or step == emergency == self.refused:
            progress[word.ACKNOWLEDGED] = -emergency
            return True
        progress[word.ACKNOWLEDGED] = emergency
        return step < emergency

    def give_up(self) -> None:
        """Nobody decides any more: take the promise back at the next look, and leave."""
        self._has_given_up = True

    def _come_to_terms(self, step: int) -> None:
        if self.look(step):
            return
        self._progress[word.WAITING] = step
        try:
            self._wait(step)
        finally:
            self._progress[word.WAITING] = 0

    def _wait(self, step: int) -> None:
        begin = heard_at = time.monotonic()
        heartbeat = self._control[word.HEARTBEAT]
        while not self.look(step):
            now = time.monotonic()
            if self._control[word.HEARTBEAT] != heartbeat:
                heartbeat, heard_at = self._control[word.HEARTBEAT], now
            is_endless = not self._control[word.DEADLINE] and now - begin > LONGEST_WAIT_SECONDS
            if is_endless or now - heard_at > SILENCE_SECONDS:
                self.give_up()
            self._sleep(_POLL_SECONDS)

    def _is_over(self) -> bool:
        """The round was aborted or has timed out, or this rank has left it."""
        if self._has_given_up or self._control[word.ABORTS]:
            return True
        deadline = self._control[word.DEADLINE]
        return 0 < deadline <= self._now() * 1000
