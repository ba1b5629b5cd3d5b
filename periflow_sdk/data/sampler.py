"""Batches of sample numbers, in an order that a resumed run takes up where it was left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from periflow_sdk.data.permutation import Permutation, shuffled
from periflow_sdk.errors import UsageError


class _Place(NamedTuple):
    """How far the data was taken: samples of an epoch, counted over all ranks."""

    epoch: int
    consumed: int


class _ResumableSampler:
    """What both samplers share: whole batches cut from one order, and a place in it."""

    _order_name: str

    def __init__(
        self,
        samples_per_epoch: int,
        batch_size: int,
        drop_last: bool,
        data_parallel_rank: int,
        data_parallel_size: int,
        processed_steps: int,
    ) -> None:
        _check(samples_per_epoch, batch_size, drop_last, data_parallel_rank, data_parallel_size)
        self._samples = samples_per_epoch
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._rank = data_parallel_rank
        self._ranks = data_parallel_size
        self._start = self._place = _Place(0, 0)
        self._check_tail(0)
        if len(self) == 0:
            raise UsageError(
                f"an epoch of {samples_per_epoch} samples has no batch of {batch_size}",
                hint="use a smaller batch_size, or drop_last=False",
            )
        self.set_processed_steps(processed_steps)

    @property
    def epoch(self) -> int:
        """The epoch the next batch belongs to, from 0; after its last batch still that one."""
        return self._place.epoch

    def __len__(self) -> int:
        """Batches in a whole epoch, the same on every rank."""
        full, rest = divmod(self._samples, self._batch_size)
        return full + (1 if rest and not self._drop_last else 0)

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's part of each batch, from the place where the run goes on to the epoch's end.

        Iterating again gives the next epoch; if the loop was left early, the same batches again.
        """
        self._place = self._start
        epoch, consumed = self._start
        order = self._order(epoch)
        while size := self._next_size(consumed):
            first = consumed + size * self._rank // self._ranks
            last = consumed + size * (self._rank + 1) // self._ranks
            consumed += size
            self._place = _Place(epoch, consumed)
            yield [order[n] for n in range(first, last)]
        self._start = self._place = _Place(epoch + 1, 0)

    def set_processed_steps(self, processed_steps: int) -> None:
        """Go on after this many batches, those of earlier epochs included.

        It needs no saved state, and is right however far the loader's workers have read ahead.

        Args:
            processed_steps: Batches that every rank has trained on: ``pf.current_step()`` where
                a step is one batch.

        Raises:
            UsageError: It is negative.
        """
        if processed_steps < 0:
            raise UsageError(f"processed_steps is {processed_steps}; it counts from 0")
        epoch, batches = divmod(processed_steps, len(self))
        self._start = self._place = _Place(epoch, batches * self._batch_size)

    def state_dict(self) -> dict[str, Any]:
        """The place after the batch that was handed out last, the same on every rank.

        Workers of a plain DataLoader read ahead of the training: see set_processed_steps().
        """
        return {
            "order": self._order_name,
            "samples_per_epoch": self._samples,
            "epoch": self._place.epoch,
            "consumed": self._place.consumed,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on at a saved place. The number of ranks and the batch size may be others.

        Args:
            state_dict: What state_dict() gave, on any rank.

        Raises:
            UsageError: It is of another sampler or data set, or the epoch's rest cannot be cut
                so that every rank has a part of each batch.
        """
        try:
            place = _Place(int(state_dict["epoch"]), int(state_dict["consumed"]))
            origin = (state_dict["order"], state_dict["samples_per_epoch"])
        except (KeyError, TypeError, ValueError):
            raise UsageError(
                "load_state_dict() was given something that is no sampler's state_dict()"
            ) from None
        if origin != (self._order_name, self._samples):
            raise UsageError(
                f"the saved place is in {origin[1]} samples in {origin[0]} order, "
                f"this sampler has {self._samples} in {self._order_name} order",
                hint="make the sampler as it was when the checkpoint was saved",
            )
        if place.epoch < 0 or not 0 <= place.consumed <= self._samples:
            raise UsageError(f"the saved place {place} is outside the data set")
        self._check_tail(place.consumed)
        self._start = self._place = place

    def _order(self, epoch: int) -> Sequence[int] | Permutation:
        raise NotImplementedError

    def _next_size(self, consumed: int) -> int:
        """Samples of the next batch, over all ranks; 0 at the end of the epoch."""
        left = self._samples - consumed
        return self._batch_size if left >= self._batch_size else 0 if self._drop_last else left

    def _check_tail(self, consumed: int) -> None:
        tail = (self._samples - consumed) % self._batch_size
        if 0 < tail < self._ranks and not self._drop_last:
            raise UsageError(
                f"the last batch of the epoch has {tail} samples for {self._ranks} ranks; "
                "a rank without a sample would take one step less than the others",
                hint="use drop_last=True, or another batch_size",
            )


class ResumableSequentialSampler(_ResumableSampler):
    """Batches of the samples in their own order. Pass it to a DataLoader as ``batch_sampler``.

    Args:
        samples_per_epoch: The length of the data set.
        batch_size: Samples of a batch over all ranks; a multiple of ``data_parallel_size``.
        drop_last: Leave out the last batch of an epoch if it is not full.
        data_parallel_rank: Which part of each batch this rank takes.
        data_parallel_size: How many ranks share each batch.
        processed_steps: Batches that were trained on already.

    Raises:
        UsageError: The numbers do not go together.

    Example:
        >>> from periflow_sdk.data import ResumableSequentialSampler
        >>> list(ResumableSequentialSampler(5, batch_size=2, processed_steps=1))
        [[2, 3], [4]]
    """

    _order_name = "sequential"

    def __init__(
        self,
        samples_per_epoch: int,
        batch_size: int,
        drop_last: bool = False,
        data_parallel_rank: int = 0,
        data_parallel_size: int = 1,
        *,
        processed_steps: int = 0,
    ) -> None:
        super().__init__(
            samples_per_epoch,
            batch_size,
            drop_last,
            data_parallel_rank,
            data_parallel_size,
            processed_steps,
        )

    def _order(self, epoch: int) -> Sequence[int]:
        return range(self._samples)


class ResumableRandomSampler(_ResumableSampler):
    """Batches of the samples in an order shuffled anew each epoch, the same on every rank.

    Args:
        samples_per_epoch: The length of the data set.
        batch_size: Samples of a batch over all ranks; a multiple of ``data_parallel_size``.
        drop_last: Leave out the last batch of an epoch if it is not full.
        seed: Names the order; every rank has to give the same.
        data_parallel_rank: Which part of each batch this rank takes.
        data_parallel_size: How many ranks share each batch.
        processed_steps: Batches that were trained on already.

    Raises:
        UsageError: The numbers do not go together.

    Example:
        >>> from periflow_sdk.data import ResumableRandomSampler
        >>> whole = list(ResumableRandomSampler(5, batch_size=2, seed=7))
        >>> whole[1:] == list(ResumableRandomSampler(5, batch_size=2, seed=7, processed_steps=1))
        True
    """

    _order_name = "random"

    def __init__(
        self,
        samples_per_epoch: int,
        batch_size: int,
        drop_last: bool = False,
        seed: int = 0,
        data_parallel_rank: int = 0,
        data_parallel_size: int = 1,
        *,
        processed_steps: int = 0,
    ) -> None:
        self._seed = seed
        super().__init__(
            samples_per_epoch,
            batch_size,
            drop_last,
            data_parallel_rank,
            data_parallel_size,
            processed_steps,
        )

    def state_dict(self) -> dict[str, Any]:
        """The place after the batch that was handed out last, with the seed of its order."""
        return super().state_dict() | {"seed": self._seed}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on at a saved place, in the order it was saved in: the saved seed holds."""
        super().load_state_dict(state_dict)
        self._seed = int(state_dict.get("seed", self._seed))

    def _order(self, epoch: int) -> list[int] | Permutation:
        return shuffled(self._samples, self._seed, epoch)


def _check(samples: int, batch_size: int, drop_last: object, rank: int, ranks: int) -> None:
    if not isinstance(drop_last, bool):
        raise UsageError(
            f"drop_last is {drop_last!r}; it is True or False",
            hint="name the arguments: batch_size=64, drop_last=True, processed_steps=0",
        )
    if samples < 1 or batch_size < 1:
        raise UsageError(f"{samples} samples in batches of {batch_size}: both are 1 or more")
    if not 0 <= rank < ranks:
        raise UsageError(
            f"data_parallel_rank is {rank} of {ranks}",
            hint="ranks count from 0 to data_parallel_size - 1",
        )
    if batch_size % ranks:
        raise UsageError(
            f"batch_size={batch_size} is the batch of all ranks, and does not divide by {ranks}",
            hint=f"for example batch_size={-(-batch_size // ranks) * ranks}",
        )
