"""How long a step takes, from looks at how many are finished."""

from __future__ import annotations

import collections

_MOST_CHANGES = 16
_WINDOW_SECONDS = 20.0


class Pace:
    """The time of a step over the last seconds; of slow steps, over the last few."""

    def __init__(self) -> None:
        self._changes: collections.deque[tuple[float, int]] = collections.deque(
            maxlen=_MOST_CHANGES
        )

    def note(self, finished: int, now: float) -> None:
        """So many steps are finished now."""
        changes = self._changes
        if changes and finished < changes[-1][1]:
            changes.clear()
        if not changes or finished > changes[-1][1]:
            changes.append((now, finished))
        while len(changes) > 2 and now - changes[0][0] > _WINDOW_SECONDS:
            changes.popleft()

    def step_seconds(self) -> float | None:
        """Seconds a step, None while it is not known."""
        if len(self._changes) < 2:
            return None
        (begin, first), (end, last) = self._changes[0], self._changes[-1]
        return (end - begin) / (last - first)
