"""Which samples of an epoch are a rank's, also when the number of ranks changes on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate


class Part:
    """Stretches of an order, one behind the other.

    Every rank takes one piece of it, all of the same length: so all make the same number of steps,
    and each reads other files. What does not divide (fewer samples than ranks) is left out.

    Args:
        stretches: Start and end (not included) of each.

    Example:
        >>> whole = Part([(0, 10)])
        >>> [whole.share(rank, 3) for rank in range(3)]
        [Part([(0, 3)]), Part([(3, 6)]), Part([(6, 9)])]
        >>> whole.rest(3, 2)
        Part([(2, 3), (5, 6), (8, 10)])
    """

    def __init__(self, stretches: Sequence[tuple[int, int]]) -> None:
        self._stretches = [(start, stop) for start, stop in stretches if start < stop]
        self._starts = [0, *accumulate(stop - start for start, stop in self._stretches)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __repr__(self) -> str:
        return f"Part({self._stretches})"

    def stretch_end(self, place: int) -> int:
        """Where the stretch with this place ends."""
        return next(stop for start, stop in self._stretches if start <= place < stop)

    def cut(self, start: int, stop: int) -> Part:
        """The samples from the ``start``-th to before the ``stop``-th."""
        return Part(list(self._cut(start, stop)))

    def share(self, rank: int, ranks: int) -> Part:
        """What one of so many ranks takes."""
        length = len(self) // ranks
        return self.cut(rank * length, (rank + 1) * length)

    def rest(self, ranks: int, taken: int) -> Part:
        """What is left when each of so many ranks has taken ``taken`` samples of its share."""
        length = len(self) // ranks
        left = [
            stretch
            for rank in range(ranks)
            for stretch in self._cut(rank * length + taken, (rank + 1) * length)
        ]
        left.extend(self._cut(ranks * length, len(self)))
        return Part(_joined(left))

    def places(self, start: int, stop: int) -> list[int]:
        """The places in the order of the ``start``-th to before the ``stop``-th sample."""
        return [place for first, last in self._cut(start, stop) for place in range(first, last)]

    def _cut(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        for (first, last), before in zip(self._stretches, self._starts, strict=False):
            begin = max(first, first + start - before)
            end = min(last, first + stop - before)
            if begin < end:
                yield begin, end


def _joined(stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, stop in stretches:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return joined
