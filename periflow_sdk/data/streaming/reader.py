"""Reads samples in one process."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.streaming.ahead import Ahead
from periflow_sdk.data.streaming.files import FilesLayout
from periflow_sdk.data.streaming.layout import Layout, OpenBlock
from periflow_sdk.data.streaming.order import Block, Order, Window
from periflow_sdk.errors import IntegrityError


class Reader:
    """What one process (a DataLoader's worker, or the training itself) has open.

    Args:
        dataset: Gives the files.
        layout: How samples lie in them.
        seed: Names the order; None for none.
        ahead: Fetches files before they are wanted; None where another process does it.
    """

    def __init__(
        self, dataset: Dataset, layout: Layout, seed: int | None, ahead: Ahead | None
    ) -> None:
        self._fetch = dataset.fetch
        self._layout = layout
        self._seed = seed
        self._ahead = ahead
        self._open: OrderedDict[int, OpenBlock] = OrderedDict()
        self._order: Order | None = None
        self._window: Window | None = None
        self._last: Sequence[int] = ()
        self._guess: Sequence[int] = ()

    def read(self, epoch: int, places: Sequence[int]) -> list[Any]:
        """Samples by their places in the order of an epoch."""
        self._look_ahead(epoch, places)
        samples: list[Any] = [None] * len(places)
        for first, window, inside in self._runs(epoch, places):
            for number, (which, of_block) in window.locate(inside).items():
                found = self._block(number).read(of_block)
                for n, sample in zip(which, found, strict=True):
                    samples[first + n] = sample
        return samples

    def _look_ahead(self, epoch: int, places: Sequence[int]) -> None:
        """Where samples are files of their own: have those asked for that come next.

        A DataLoader's worker gets every n-th batch. Only if the last guess was right is the next
        one worth anything.
        """
        if not isinstance(self._layout, FilesLayout):
            return
        last, guess = self._last, self._guess
        self._last = places
        self._guess = [place + places[0] - last[0] for place in places] if last else []
        order = self._order_of(epoch)
        if guess == places and places[0] < self._guess[0] and self._guess[-1] < len(order):
            [(_, numbers)] = order.window(places[0]).locate(self._guess).values()
            self._layout.expect(numbers)

    def _runs(self, epoch: int, places: Sequence[int]) -> Iterator[tuple[int, Window, list[int]]]:
        """The places cut where the window changes: number of the first one, window, places."""
        order = self._order_of(epoch)
        first = 0
        while first < len(places):
            window = self._window
            if window is None or not window.start <= places[first] < window.stop:
                window = self._window = order.window(places[first])
                if self._ahead is not None:
                    self._ahead.reach(order, places[first], len(order))
            last = first + 1
            while last < len(places) and window.start <= places[last] < window.stop:
                last += 1
            yield first, window, list(places[first:last])
            first = last

    def _order_of(self, epoch: int) -> Order:
        if self._order is None or self._order.epoch != epoch:
            self._order = Order(self._layout.blocks, self._seed, epoch)
            self._window = None
        return self._order

    def _block(self, number: int) -> OpenBlock:
        opened = self._open.get(number)
        if opened is not None:
            self._open.move_to_end(number)
            return opened
        opened = self._open[number] = self._opened(self._layout.blocks[number])
        widest = self._order.widest if self._order else 0
        while len(self._open) > max(self._layout.kept_open, widest + 1):
            self._open.popitem(last=False)
        return opened

    def _opened(self, block: Block) -> OpenBlock:
        if block.path is None:
            return self._layout.open(block, None)
        path = (self._ahead.path if self._ahead is not None else self._fetch)(block.path)
        try:
            try:
                return self._layout.open(block, path)
            except FileNotFoundError:  # a full cache has removed it meanwhile
                return self._layout.open(block, self._fetch(block.path))
        except (ValueError, IndexError, struct.error) as error:
            raise IntegrityError(f"{block.path} is damaged: {error}") from error
        except IntegrityError as error:
            raise IntegrityError(f"{block.path}: {error.message}", hint=error.hint) from error
