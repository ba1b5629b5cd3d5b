"""Reads samples in one process, and fetches the files of the next ones meanwhile."""

from __future__ import annotations

import struct
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.streaming.ahead import Ahead
from periflow_sdk.data.streaming.layout import Layout, OpenBlock
from periflow_sdk.data.streaming.order import Block, Order, Window
from periflow_sdk.data.streaming.part import Part
from periflow_sdk.errors import IntegrityError

AHEAD_BYTES = 64_000_000
AHEAD_FILES = 2


class Reader:
    """What one process (a DataLoader's worker, or the training itself) has open.

    Args:
        dataset: Gives the files.
        layout: How samples lie in them.
        seed: Names the order; None for none.
        rank: Whose share is read: it says where fetching ahead ends.
        ranks: How many shares there are.
    """

    def __init__(
        self, dataset: Dataset, layout: Layout, seed: int | None, rank: int, ranks: int
    ) -> None:
        self._dataset = dataset
        self._layout = layout
        self._seed = seed
        self._rank, self._ranks = rank, ranks
        self._worker, self._workers = _worker()
        self._ahead = Ahead(dataset.fetch)
        self._open: OrderedDict[int, OpenBlock] = OrderedDict()
        self._order: tuple[int, Order] | None = None
        self._window: Window | None = None

    def read(self, epoch: int, places: Sequence[int]) -> list[Any]:
        """Samples by their places in the order of an epoch."""
        samples: list[Any] = [None] * len(places)
        for first, window, inside in self._runs(epoch, places):
            for number, (which, of_block) in window.locate(inside).items():
                found = self._block(number).read(of_block)
                for n, sample in zip(which, found, strict=True):
                    samples[first + n] = sample
        return samples

    def _runs(self, epoch: int, places: Sequence[int]) -> Iterator[tuple[int, Window, list[int]]]:
        """The places cut where the window changes: number of the first one, window, places."""
        order = self._order_of(epoch)
        first = 0
        while first < len(places):
            window = self._window
            if window is None or not window.start <= places[first] < window.stop:
                window = self._window = order.window(places[first])
                self._look_ahead(order, places[first])
            last = first + 1
            while last < len(places) and window.start <= places[last] < window.stop:
                last += 1
            yield first, window, list(places[first:last])
            first = last

    def _order_of(self, epoch: int) -> Order:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, Order(self._layout.blocks, self._seed, epoch)
            self._window = None
        return self._order[1]

    def _look_ahead(self, order: Order, place: int) -> None:
        """Have the files of this window and of what follows it fetched.

        The workers of a rank need the same files: each begins with others.
        """
        share = Part([(0, len(order))]).share(self._rank, self._ranks).span
        stop = share[1] if share[0] <= place < share[1] else len(order)
        needed: dict[str, None] = {}
        ahead: dict[str, None] = {}
        size = 0
        for before, numbers in order.blocks_from(place, stop):
            files = ahead if needed else needed
            for n, number in enumerate(numbers, before):
                block = self._layout.blocks[number]
                if block.path is None:
                    return
                if files is needed or n % self._workers == self._worker:
                    files[block.path] = None
                if files is ahead:
                    size += block.size
            if size >= AHEAD_BYTES * self._workers and len(ahead) >= AHEAD_FILES:
                break
        self._ahead.want({**needed, **ahead})

    def _block(self, number: int) -> OpenBlock:
        opened = self._open.get(number)
        if opened is not None:
            self._open.move_to_end(number)
            return opened
        opened = self._open[number] = self._opened(self._layout.blocks[number])
        widest = self._order[1].widest if self._order else 0
        while len(self._open) > max(self._layout.kept_open, widest + 1):
            self._open.popitem(last=False)
        return opened

    def _opened(self, block: Block) -> OpenBlock:
        if block.path is None:
            return self._layout.open(block, None)
        path = self._ahead.path(block.path)
        try:
            try:
                return self._layout.open(block, path)
            except FileNotFoundError:  # a full cache has removed it meanwhile
                return self._layout.open(block, self._dataset.fetch(block.path))
        except (ValueError, IndexError, struct.error) as error:
            raise IntegrityError(f"{block.path} is damaged: {error}") from error
        except IntegrityError as error:
            raise IntegrityError(f"{block.path}: {error.message}", hint=error.hint) from error


def _worker() -> tuple[int, int]:
    """Which of how many workers of a DataLoader this process is."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return (info.id, info.num_workers) if info is not None else (0, 1)
