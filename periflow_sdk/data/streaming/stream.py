"""Samples of a data set, as torch's DataLoader reads them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.process import PerProcess
from periflow_sdk.data.streaming.ahead import Ahead
from periflow_sdk.data.streaming.batch import Batches
from periflow_sdk.data.streaming.layout import Layout, LayoutName, find_layout
from periflow_sdk.data.streaming.order import Order
from periflow_sdk.data.streaming.reader import Reader
from periflow_sdk.environment import process_rank, process_world_size
from periflow_sdk.errors import UsageError

_ITERATED_AT_ONCE = 64


class Stream:
    """A map-style data set whose numbers are places in an order; `stream` makes one.

    The first ``len(stream)`` numbers are the first epoch, the next ones the second, and so on:
    a number alone says which sample it is, in every process. `batches` gives each rank its part.

    Args:
        dataset: Where the samples come from.
        layout: How they lie there.
        seed: Names the order; None for the samples as they lie.
        transform: Applied to each sample.
        rank: This process.
        world_size: How many processes share the samples.
    """

    def __init__(
        self,
        dataset: Dataset,
        layout: Layout,
        seed: int | None,
        transform: Callable[[Any], Any] | None,
        rank: int,
        world_size: int,
    ) -> None:
        self.dataset = dataset
        self.rank = rank
        self.world_size = world_size
        self._layout = layout
        self._seed = seed
        self._transform = transform
        self._length = sum(block.samples for block in layout.blocks)
        self._is_led = False
        self._reader = PerProcess(self._new_reader)
        self._leader = PerProcess(partial(Ahead, dataset.fetch, layout.blocks))
        self._order: Order | None = None

    def __len__(self) -> int:
        """Samples of an epoch, over all ranks."""
        return self._length

    def __repr__(self) -> str:
        return f"Stream({self.dataset.name!r}, {self.layout}, {len(self)} samples)"

    @property
    def layout(self) -> str:
        """How the samples lie: ``files``, ``tar``, ``parquet``, ``mds`` or ``litdata``."""
        return self._layout.name

    def batches(self, batch_size: int, drop_last: bool = False) -> Batches:
        """This rank's batches, for ``DataLoader(samples, batch_sampler=...)``.

        Args:
            batch_size: Samples of a batch of this rank.
            drop_last: Leave out the last batch of an epoch if it is not full.

        Raises:
            UsageError: An epoch has no batch for every rank.
        """
        self._is_led = True
        order = {"layout": self.layout, "seed": self._seed}
        return Batches(
            len(self), batch_size, drop_last, self.rank, self.world_size, order, self._reach
        )

    def __getitem__(self, number: int) -> Any:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Many samples at once, as a DataLoader asks for a batch.

        Args:
            numbers: Places in the order; epoch after epoch.
        """
        epoch = numbers[0] // self._length
        if epoch < 0:
            raise IndexError(numbers[0])
        first = epoch * self._length
        places = [number - first for number in numbers]
        if min(places) < 0 or max(places) >= self._length:  # of several epochs
            return [sample for number in numbers for sample in self.__getitems__([number])]
        samples = self._reader().read(epoch, places)
        if self._transform is not None:
            return [self._transform(sample) for sample in samples]
        return samples

    def __iter__(self) -> Iterator[Any]:
        """The first epoch, over all ranks."""
        for start in range(0, self._length, _ITERATED_AT_ONCE):
            stop = min(start + _ITERATED_AT_ONCE, self._length)
            yield from self.__getitems__(range(start, stop))

    def _reach(self, epoch: int, place: int, stop: int) -> None:
        """Have files fetched for the workers that will want them."""
        if self._order is None or self._order.epoch != epoch:
            self._order = Order(self._layout.blocks, self._seed, epoch)
        self._leader().reach(self._order, place, stop)

    def _new_reader(self) -> Reader:
        ahead = None
        if not self._is_led:
            ahead = Ahead(self.dataset.fetch, self._layout.blocks, *_worker())
        return Reader(self.dataset, self._layout, self._seed, ahead)


def stream(
    dataset: Dataset | str | Path,
    path: str = "",
    *,
    shuffle: bool = False,
    seed: int = 0,
    transform: Callable[[Any], Any] | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    layout: LayoutName = "auto",
) -> Stream:
    """The samples of a data set, for training from where it lies.

    Args:
        dataset: A `Dataset`, the name of one, or (as a Path) a local folder.
        path: Only what lies in this folder of it, or matches this pattern.
        shuffle: Another order in each epoch: of the files, and of the samples of neighbouring
            files (64 MB).
        seed: Names the order; every rank has to give the same.
        transform: Applied to each sample, in the DataLoader's workers.
        rank: Which part to read; by default as torch.distributed or the launcher says.
        world_size: How many ranks share the samples; by default as these say.
        layout: How samples lie in the files; found by their names and ``index.json``.

    Returns:
        A map-style data set.

    Raises:
        NotFoundError: There is no such data set or folder.
        UsageError: It has no samples, or the arguments do not go together.

    Example:
        >>> samples = stream(Path("shards"), shuffle=True)  # doctest: +SKIP
        >>> batches = samples.batches(64)  # doctest: +SKIP
        >>> DataLoader(samples, batch_sampler=batches, num_workers=2)  # doctest: +SKIP
    """
    opened = _opened(dataset)
    own_rank, ranks = _ranks(rank, world_size)
    found = find_layout(opened, path, layout)
    samples = Stream(opened, found, seed if shuffle else None, transform, own_rank, ranks)
    if not len(samples):
        raise UsageError(f"the files of the dataset {opened.name} have no samples")
    return samples


def _worker() -> tuple[int, int]:
    """Which of how many workers of a DataLoader this process is."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return (info.id, info.num_workers) if info is not None else (0, 1)


def _opened(dataset: Dataset | str | Path) -> Dataset:
    if isinstance(dataset, Dataset):
        return dataset
    if isinstance(dataset, Path):
        return Dataset.from_folder(dataset)
    import periflow_sdk

    return periflow_sdk.dataset(dataset)


def _ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """This process and how many there are; torch.distributed knows best."""
    if rank is None and world_size is None:
        distributed = getattr(sys.modules.get("torch"), "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return int(distributed.get_rank()), int(distributed.get_world_size())
        if os.environ.get("RANK"):
            return process_rank(), process_world_size()
        return 0, 1
    if rank is None or world_size is None or not 0 <= rank < world_size:
        raise UsageError(
            f"rank={rank} of world_size={world_size}",
            hint="give both, and ranks count from 0, or neither",
        )
    return rank, world_size
