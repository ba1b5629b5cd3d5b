"""In which order the samples of an epoch come."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from periflow_sdk.data.permutation import Permutation, shuffled

WINDOW_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Block:
    """Samples that lie together in a file.

    Args:
        path: The file that holds them; None where each sample is a file of its own.
        samples: How many they are.
        size: Their bytes in the store.
        number: Which of the file's blocks this is.
    """

    path: str | None
    samples: int
    size: int
    number: int = 0


class Window:
    """Neighbours in the order whose samples are mixed with each other, and with no others.

    Args:
        start: The place of its first sample in the order.
        blocks: The numbers of its blocks.
        counts: How many samples each of them has.
        key: Seed and epoch of the mix; None for the samples as they lie.
    """

    def __init__(
        self, start: int, blocks: Sequence[int], counts: Sequence[int], key: tuple[int, int] | None
    ) -> None:
        self.start = start
        self.blocks = blocks
        self._starts = [0, *accumulate(counts)]
        self.stop = start + self._starts[-1]
        self._mix: Sequence[int] | Permutation = range(self._starts[-1])
        if key is not None:
            seed, epoch = key
            self._mix = shuffled(self.stop - start, seed, epoch, f"window {start}")

    def locate(self, places: Sequence[int]) -> dict[int, tuple[list[int], list[int]]]:
        """Where samples lie.

        Args:
            places: Places in the order, all inside this window.

        Returns:
            For each block: which of ``places``, and which samples of the block they are.
        """
        start, mix, starts = self.start, self._mix, self._starts
        numbers = [mix[place - start] for place in places]
        if len(self.blocks) == 1:
            return {self.blocks[0]: (list(range(len(numbers))), numbers)}
        found: dict[int, tuple[list[int], list[int]]] = {}
        for n, number in enumerate(numbers):
            at = bisect_right(starts, number) - 1
            which, of_block = found.setdefault(self.blocks[at], ([], []))
            which.append(n)
            of_block.append(number - starts[at])
        return found


class Order:
    """One epoch: files shuffled, the blocks of a file, and the samples within windows.

    A window is as many blocks as make 64 MB; so what is in the memory, or fetched before the
    first sample comes, is bounded, whatever the size of the data set. The order is a matter of
    seed, epoch and blocks alone, the same on every machine.

    Args:
        blocks: All of the data set; those of a file one behind the other.
        seed: Names the order; None for the samples as they lie.
        epoch: Names another order of the same seed.
    """

    def __init__(self, blocks: Sequence[Block], seed: int | None, epoch: int) -> None:
        self.epoch = epoch
        self._blocks = blocks
        self._key = None if seed is None else (seed, epoch)
        self._windows = list(self._cut(self._arranged()))
        counts = (sum(blocks[n].samples for n in window) for window in self._windows)
        self._starts = [0, *accumulate(counts)]
        self._blocks_before = [0, *accumulate(map(len, self._windows))]
        self._made: tuple[int, Window] | None = None

    def __len__(self) -> int:
        return self._starts[-1]

    def window_number(self, place: int) -> int:
        """Which window of the epoch a place is in."""
        return bisect_right(self._starts, place) - 1

    def window(self, place: int) -> Window:
        """The window of a place in the order."""
        number = self.window_number(place)
        made = self._made
        if made is None or made[0] != number:
            blocks = self._windows[number]
            counts = [self._blocks[n].samples for n in blocks]
            made = self._made = number, Window(self._starts[number], blocks, counts, self._key)
        return made[1]

    @property
    def widest(self) -> int:
        """The blocks of the window that has most of them."""
        return max(map(len, self._windows))

    def blocks_from(self, place: int, stop: int) -> Iterator[tuple[int, list[int]]]:
        """The blocks of the windows from the one at ``place`` to before ``stop``.

        Returns:
            Window by window: how many blocks come before it in the epoch, and its blocks.
        """
        for number in range(self.window_number(place), len(self._windows)):
            if self._starts[number] >= stop:
                return
            yield self._blocks_before[number], self._windows[number]

    def _arranged(self) -> Iterator[int]:
        files = [
            [n for n, _ in group]
            for _, group in groupby(enumerate(self._blocks), lambda pair: pair[1].path)
        ]
        if self._key is None:
            for file in files:
                yield from file
            return
        seed, epoch = self._key
        for at in _in_order(shuffled(len(files), seed, epoch, "files")):
            file = files[at]
            yield from (file[n] for n in _in_order(shuffled(len(file), seed, epoch, f"file {at}")))

    def _cut(self, numbers: Iterator[int]) -> Iterator[list[int]]:
        """Blocks that have samples, in windows."""
        window: list[int] = []
        size = 0
        for number in numbers:
            block = self._blocks[number]
            if not block.samples:
                continue
            window.append(number)
            size += block.size
            if self._key is None or size >= WINDOW_BYTES:
                yield window
                window, size = [], 0
        if window:
            yield window


def _in_order(order: list[int] | Permutation) -> Iterator[int]:
    return (order[n] for n in range(len(order)))
