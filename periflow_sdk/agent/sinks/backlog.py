"""How far a sink may fall behind: what it has not read keeps the journal from removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from periflow_sdk.agent.journal import Segment, segments

LIMIT_BYTES = 128 * 1024 * 1024
_READ_BYTES = 1024 * 1024


class Backlog:
    """What one sink is granted to have unread, and what it missed beyond that.

    Attributes:
        lost: Records that were removed before the sink had read them.
    """

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._given_up: dict[str, int] = {}
        self.lost = 0

    def reached(
        self, run_dir: Path, offsets: Mapping[str, int], others: Sequence[Mapping[str, int]]
    ) -> Mapping[str, int]:
        """The offsets up to which the sink's segments may go.

        Args:
            offsets: How far the sink has read.
            others: How far everybody else has: only what all of them have read is given up.
        """
        reached = {**offsets, **self._given_up}
        unread = [
            segment
            for segment in segments(run_dir)
            if segment.size > reached.get(segment.key, 0)
            and all(other.get(segment.key, 0) >= segment.size for other in others)
        ]
        behind = sum(segment.size - reached.get(segment.key, 0) for segment in unread)
        for segment in unread:
            if behind <= self._limit:
                break
            offset = reached.get(segment.key, 0)
            behind -= segment.size - offset
            self.lost += _count_lines(segment, offset)
            self._given_up[segment.key] = reached[segment.key] = segment.size
        return reached


def _count_lines(segment: Segment, offset: int) -> int:
    count = 0
    with segment.path.open("rb") as file:
        file.seek(offset)
        while data := file.read(_READ_BYTES):
            count += data.count(b"\n")
    return count
