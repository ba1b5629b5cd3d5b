"""Which rank reads which sample when: arithmetic, without files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from periflow_sdk.data.streaming.batch import Batches
from periflow_sdk.data.streaming.order import Block, Order
from periflow_sdk.data.streaming.part import Part
from periflow_sdk.errors import UsageError

ORDER = {"layout": "tar", "seed": 3}


@st.composite
def blocks(draw: st.DrawFn) -> list[Block]:
    """Files of unequal blocks, some of them empty, some larger than a window."""
    files = draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), max_size=9))
    found = []
    for number, counts in enumerate(files):
        for at, count in enumerate(counts):
            size = draw(st.sampled_from([1, 20_000_000, 70_000_000]))
            found.append(Block(f"{number}.tar", count, size, at))
    return [*found, Block("last.tar", 3, 1)]


def located(order: Order) -> list[tuple[int, int]]:
    """Block and sample of every place, in order."""
    found: list[tuple[int, int]] = []
    while len(found) < len(order):
        window = order.window(len(found))
        places = range(window.start, window.stop)
        samples: dict[int, tuple[int, int]] = {}
        for block, (which, numbers) in window.locate(places).items():
            samples |= {n: (block, number) for n, number in zip(which, numbers, strict=True)}
        found.extend(samples[n] for n in range(len(places)))
    return found


@given(blocks=blocks(), seed=st.none() | st.integers(0, 3), epoch=st.integers(0, 2))
def test_an_epoch_has_each_sample_once(blocks: list[Block], seed: int | None, epoch: int) -> None:
    everything = [(n, k) for n, block in enumerate(blocks) for k in range(block.samples)]
    order = Order(blocks, seed, epoch)
    found = located(order)
    assert sorted(found) == everything
    if seed is None:
        assert found == everything
    assert located(Order(blocks, seed, epoch)) == found


def test_an_order_never_changes_between_versions_and_machines() -> None:
    order = Order([Block(f"{n}", 3, 30_000_000) for n in range(4)], 5, 1)
    assert [10 * block + sample for block, sample in located(order)] == [
        30,
        2,
        32,
        0,
        21,
        22,
        20,
        1,
        31,
        10,
        12,
        11,
    ]


def test_what_is_mixed_lies_within_64_megabytes_and_files_are_shuffled() -> None:
    shards = [Block(f"{n}.tar", 100, 10_000_000) for n in range(70)]
    found = located(Order(shards, 1, 0))
    windows = [{block for block, _ in found[start : start + 700]} for start in range(0, 7000, 700)]
    assert [len(window) for window in windows] == [7] * 10
    assert all(max(window) - min(window) > 7 for window in windows)
    assert len({block for block, _ in found[:64]}) == 7
    other = located(Order(shards, 1, 1))
    assert other != found and sorted(other) == sorted(found)


def test_files_to_be_fetched_end_where_the_share_ends() -> None:
    order = Order([Block(f"{n}.tar", 10, 1) for n in range(8)], None, 0)
    assert list(order.blocks_from(25, 41)) == [(2, [2]), (3, [3]), (4, [4])]


@given(
    length=st.integers(0, 60),
    changes=st.lists(st.tuples(st.integers(1, 5), st.floats(0, 1)), max_size=4),
    ranks=st.integers(1, 5),
)
def test_whatever_ranks_took_the_rest_is_shared_evenly(
    length: int, changes: list[tuple[int, float]], ranks: int
) -> None:
    part, taken = Part([(0, length)]), []
    for many, portion in changes:
        each = int(len(part) // many * portion)
        for rank in range(many):
            taken += part.share(rank, many).places(0, each)
        part = part.rest(many, each)
    shares = [part.share(rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    rest = [place for share in shares for place in share.places(0, len(share))]
    assert len(taken) + len(part) == length
    assert len(set(taken + rest)) == len(taken + rest) > length - ranks


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    ranks, batch_size = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    drop_last = draw(st.booleans())
    samples = draw(st.integers(ranks * (batch_size if drop_last else 1), 80))
    return {
        "samples": samples,
        "batch_size": batch_size,
        "drop_last": drop_last,
        "ranks": ranks,
    }


def batches(plan: dict[str, Any], rank: int = 0) -> Batches:
    return Batches(**plan, rank=rank, order=ORDER, reach=lambda *_: None)


def some(source: Batches, count: int) -> list[list[int]]:
    """The next batches, over the ends of epochs."""
    found: list[list[int]] = []
    while len(found) < count:
        for batch in source:
            found.append(batch)
            if len(found) == count:
                break
    return found


@given(plan=plans())
def test_every_rank_has_as_many_batches_and_no_sample_comes_twice(plan: dict[str, Any]) -> None:
    ranks = [list(batches(plan, rank)) for rank in range(plan["ranks"])]
    assert {len(one) for one in ranks} == {len(batches(plan))}
    samples = [n for one in ranks for batch in one for n in batch]
    lost = plan["samples"] - len(samples)
    assert len(set(samples)) == len(samples)
    assert lost < plan["ranks"] * (plan["batch_size"] + 1 if plan["drop_last"] else 1)
    sizes = [{len(one[step]) for one in ranks} for step in range(len(batches(plan)))]
    assert all(len(size) == 1 for size in sizes)


@given(plan=plans(), steps=st.integers(0, 60))
def test_steps_or_a_state_give_the_very_next_batch(plan: dict[str, Any], steps: int) -> None:
    rank = plan["ranks"] - 1
    whole = some(batches(plan, rank), steps + 5)
    counted = batches(plan, rank)
    counted.set_processed_steps(steps)
    assert some(counted, 5) == whole[steps:]
    left = batches(plan, rank)
    some(left, steps)
    loaded = batches(plan, rank)
    loaded.load_state_dict(left.state_dict())
    assert some(loaded, 5) == whole[steps:]


@given(plan=plans(), changes=st.lists(st.integers(1, 4), min_size=1, max_size=3), data=st.data())
def test_a_run_on_other_ranks_takes_what_is_left_of_the_epoch(
    plan: dict[str, Any], changes: list[int], data: st.DataObject
) -> None:
    plan |= {"drop_last": False, "batch_size": 1}
    seen: list[int] = []
    state: dict[str, Any] | None = None
    for ranks in (plan["ranks"], *changes):
        assume(plan["samples"] >= ranks)
        here = [batches(plan | {"ranks": ranks}, rank) for rank in range(ranks)]
        if state is not None:
            for each in here:
                each.load_state_dict(state)
        takes = [iter(each) for each in here]
        left = (plan["samples"] - len(seen)) // ranks
        for _ in range(data.draw(st.integers(0, left))):
            seen += [n for take in takes for n in next(take)]
        states = [each.state_dict() for each in here]
        assert all(one == states[0] for one in states)
        state = states[0]
    assert len(set(seen)) == len(seen)
    rest = [batches(plan | {"ranks": 1})]
    assert state is not None
    rest[0].load_state_dict(state)
    seen += [n for batch in rest[0] for n in batch]
    assert sorted(seen) == list(range(plan["samples"]))


def test_epochs_count_on_and_set_epoch_keeps_a_place_within_the_epoch() -> None:
    source = batches({"samples": 4, "batch_size": 2, "drop_last": False, "ranks": 1})
    source.set_processed_steps(3)
    source.set_epoch(1)
    assert list(source) == [[6, 7]]
    source.set_epoch(2)
    assert list(source) == [[8, 9], [10, 11]] and source.epoch == 3
    source.set_epoch(0)
    assert list(source) == [[0, 1], [2, 3]]


def test_a_state_of_other_data_is_refused() -> None:
    plan = {"samples": 8, "batch_size": 2, "drop_last": False, "ranks": 1}
    state = batches(plan).state_dict()
    for other in (state | {"samples": 9}, state | {"seed": 4}, state | {"taken": 9}, {"epoch": 1}):
        with pytest.raises(UsageError):
            batches(plan).load_state_dict(other)


def test_numbers_that_do_not_go_together_are_refused() -> None:
    plan = {"samples": 8, "batch_size": 5, "drop_last": True, "ranks": 2}
    with pytest.raises(UsageError, match="no batch of 5 for each of 2 ranks"):
        batches(plan)
    with pytest.raises(UsageError, match="from 0"):
        batches(plan | {"batch_size": 2}).set_processed_steps(-1)
