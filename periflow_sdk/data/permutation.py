"""A shuffled order that is computed index by index, the same on every machine for ever."""

from __future__ import annotations

import hashlib
import math
import sys
from array import array

_ROUNDS = 6
_SORTED_LENGTH = 65_536  # a network over short digits is not even enough


def shuffled(length: int, seed: int, epoch: int, name: str = "") -> list[int] | Permutation:
    """The numbers from 0 to ``length`` - 1 in an order drawn from a seed.

    Args:
        length: How many numbers.
        seed: Names the order.
        epoch: Names another order of the same seed.
        name: Tells apart what is shuffled in the same epoch.
    """
    key = f"{seed}/{epoch}/{name}" if name else f"{seed}/{epoch}"
    if length <= _SORTED_LENGTH:
        return sorted(range(length), key=_words(key, length).__getitem__)
    return Permutation(length, key)


class Permutation:
    """A long order, looked up at any place without the places before it.

    A run so resumes in the middle of an epoch at once, and memory grows with the square root of
    the length. A Feistel network over two digits, with round functions read from SHAKE-256; a
    result beyond the length is permuted again.

    Args:
        length: How many numbers.
        key: Names the order.
    """

    def __init__(self, length: int, key: str) -> None:
        self._length = length
        self._high = math.isqrt(max(length - 1, 0)) + 1
        self._low = -(-length // self._high)
        self._rounds = [
            (
                [word % self._high for word in _words(f"{key}/{n}/high", self._low)],
                [word % self._low for word in _words(f"{key}/{n}/low", self._high)],
            )
            for n in range(_ROUNDS // 2)
        ]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self._length:
            raise IndexError(place)
        size_high, size_low = self._high, self._low
        while True:
            high, low = divmod(place, size_low)
            for to_high, to_low in self._rounds:
                high = (high + to_high[low]) % size_high
                low = (low + to_low[high]) % size_low
            place = high * size_low + low
            if place < self._length:
                return place


def _words(key: str, count: int) -> array[int]:
    words = array("Q")
    words.frombytes(hashlib.shake_256(key.encode()).digest(8 * count))
    if sys.byteorder == "big":
        words.byteswap()
    return words
