"""Batches of one rank, which a resumed run takes up where it was left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from periflow_sdk.data.streaming.part import Part
from periflow_sdk.errors import UsageError


class Place(NamedTuple):
    """How far the data was taken.

    Args:
        epoch: From 0.
        taken: Samples of the epoch that each rank has taken.
        earlier: The same before the number of ranks changed within the epoch: ranks, and samples
            that each of them had taken.
    """

    epoch: int
    taken: int
    earlier: tuple[tuple[int, int], ...] = ()


class Batches:
    """A rank's batches, for the ``batch_sampler`` of a DataLoader; made by `Stream.batches`.

    Each iteration is one epoch. Every rank has the same number of batches.

    Args:
        samples: Samples of an epoch, over all ranks.
        batch_size: Samples of a batch of this rank.
        drop_last: Leave out the last batch of an epoch if it is not full.
        rank: Whose batches.
        ranks: How many share the epoch.
        order: Names the order: what it was drawn from.
        reach: Told of each batch's epoch and first place in the order, and where the places that
            follow it end.

    Raises:
        UsageError: An epoch has no batch for every rank.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        drop_last: bool,
        rank: int,
        ranks: int,
        order: Mapping[str, Any],
        reach: Callable[[int, int, int], None],
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; it is 1 or more")
        self._samples = samples
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._rank = rank
        self._ranks = ranks
        self._order = dict(order)
        self._reach = reach
        self._start = self._place = Place(0, 0)
        if not len(self):
            raise UsageError(
                f"{samples} samples make no batch of {batch_size} for each of {ranks} ranks",
                hint="use a smaller batch_size, or drop_last=False",
            )

    @property
    def epoch(self) -> int:
        """The epoch of the batch that was handed out last; after the whole of it the next one."""
        return self._place.epoch

    def __len__(self) -> int:
        """Batches of a whole epoch, the same on every rank."""
        return self._batches(self._samples // self._ranks)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches from the place where the run goes on to the epoch's end.

        Iterating again gives the next epoch; if the loop was left early, the same batches again.
        """
        self._place = self._start
        epoch, taken, earlier = self._start
        share = self._left(earlier).share(self._rank, self._ranks)
        first = epoch * self._samples
        end = len(share)
        if self._drop_last:
            end -= (end - taken) % self._batch_size
        while taken < end:
            start, taken = taken, min(taken + self._batch_size, end)
            self._place = Place(epoch, taken, earlier)
            places = share.places(start, taken)
            self._reach(epoch, places[0], share.stretch_end(places[0]))
            yield [first + place for place in places]
        self._start = self._place = Place(epoch + 1, 0)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch, unless the run goes on in the middle of that one."""
        if epoch != self._start.epoch:
            self._start = self._place = Place(epoch, 0)

    def set_processed_steps(self, processed_steps: int) -> None:
        """Go on after this many batches of each rank, those of earlier epochs included.

        It needs no saved state, and is right however far the loader's workers have read ahead and
        however many there are, as long as ranks and batch size are those of the steps.

        Args:
            processed_steps: Batches that every rank has trained on: ``pf.current_step()`` where a
                step is one batch.

        Raises:
            UsageError: It is negative.
        """
        if processed_steps < 0:
            raise UsageError(f"processed_steps is {processed_steps}; it counts from 0")
        epoch, batches = divmod(processed_steps, len(self))
        self._start = self._place = Place(epoch, batches * self._batch_size)

    def state_dict(self) -> dict[str, Any]:
        """The place after the batch that was handed out last, the same on every rank."""
        epoch, taken, earlier = self._place
        return {
            **self._order,
            "samples": self._samples,
            "ranks": self._ranks,
            "epoch": epoch,
            "taken": taken,
            "earlier": [list(pair) for pair in earlier],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on at a saved place.

        The number of ranks, of workers and the batch size may be others: what is left of the epoch
        is then shared among the new ranks, and each sample still comes once.

        Args:
            state_dict: What state_dict() gave, on any rank.

        Raises:
            UsageError: It is of other data or another order.
        """
        try:
            origin = {name: state_dict[name] for name in (*self._order, "samples")}
            ranks, epoch, taken = (int(state_dict[name]) for name in ("ranks", "epoch", "taken"))
            earlier = tuple((int(many), int(each)) for many, each in state_dict["earlier"])
        except (KeyError, TypeError, ValueError):
            raise UsageError(
                "load_state_dict() was given something that is no stream's state_dict()"
            ) from None
        here = {**self._order, "samples": self._samples}
        if origin != here:
            raise UsageError(
                f"the saved place is in {_words(origin)}, this stream is {_words(here)}",
                hint="make the stream as it was when the checkpoint was saved",
            )
        if epoch < 0 or not 0 <= taken <= len(self._left(earlier)) // max(ranks, 1):
            raise UsageError(f"the saved place {dict(state_dict)} is outside the data set")
        if ranks != self._ranks and taken:
            earlier, taken = (*earlier, (ranks, taken)), 0
        self._start = self._place = Place(epoch, taken, earlier)

    def _left(self, earlier: tuple[tuple[int, int], ...]) -> Part:
        part = Part([(0, self._samples)])
        for ranks, taken in earlier:
            part = part.rest(ranks, taken)
        return part

    def _batches(self, samples: int) -> int:
        full, rest = divmod(samples, self._batch_size)
        return full + (1 if rest and not self._drop_last else 0)


def _words(order: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in order.items())
