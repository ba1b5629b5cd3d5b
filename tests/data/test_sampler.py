"""Every sample once an epoch, and a resumed order that goes on where it was left."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from periflow_sdk.data import ResumableRandomSampler, ResumableSequentialSampler
from periflow_sdk.data.permutation import shuffled
from periflow_sdk.errors import UsageError

Batches = list[list[int]]
KINDS = [ResumableSequentialSampler, ResumableRandomSampler]


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments that go together, for any rank."""
    ranks = draw(st.integers(1, 4))
    batch_size = ranks * draw(st.integers(1, 4))
    samples = draw(st.integers(1, 70))
    drop_last = draw(st.booleans())
    tail = samples % batch_size
    assume(samples >= batch_size if drop_last else not 0 < tail < ranks)
    return {
        "samples_per_epoch": samples,
        "batch_size": batch_size,
        "drop_last": drop_last,
        "data_parallel_size": ranks,
    }


def taken(sampler: Any, count: int) -> Batches:
    """The next batches, over the ends of epochs."""
    batches: Batches = []
    while len(batches) < count:
        for batch in sampler:
            batches.append(batch)
            if len(batches) == count:
                break
    return batches


def over_all_ranks(kind: Any, plan: dict[str, Any], count: int, **more: Any) -> Batches:
    """What all ranks take together, batch by batch."""
    ranks = range(plan["data_parallel_size"])
    parts = [taken(kind(**plan, **more, data_parallel_rank=rank), count) for rank in ranks]
    assert all(all(batch) or batch for part in parts for batch in part)
    return [[n for part in parts for n in part[i]] for i in range(count)]


@pytest.mark.parametrize("kind", KINDS)
@given(plan=plans())
def test_every_sample_is_taken_once_an_epoch_over_all_ranks(kind: Any, plan: Any) -> None:
    steps = len(kind(**plan))
    together = [n for batch in over_all_ranks(kind, plan, steps) for n in batch]
    assert len(set(together)) == len(together)
    whole = plan["samples_per_epoch"]
    kept = whole - whole % plan["batch_size"] if plan["drop_last"] else whole
    assert len(together) == kept and set(together) <= set(range(whole))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(plan=plans(), stop=st.integers(0, 60))
def test_it_goes_on_anywhere_from_its_state_or_from_the_number_of_steps(
    kind: Any, plan: Any, stop: int
) -> None:
    whole = taken(kind(**plan), stop + 20)
    left = kind(**plan)
    iterator, seen = iter(left), 0
    while seen < stop:
        for _ in iterator:
            seen += 1
            if seen == stop:
                break
        else:
            iterator = iter(left)
    state = json.loads(json.dumps(left.state_dict()))
    again = kind(**plan)
    again.load_state_dict(state)
    assert taken(again, 20) == whole[stop:]
    assert taken(kind(**plan, processed_steps=stop), 20) == whole[stop:]


@settings(max_examples=60)
@given(plan=plans(), stop=st.integers(0, 30), ranks=st.integers(1, 4))
def test_other_ranks_go_on_with_the_same_batches(plan: Any, stop: int, ranks: int) -> None:
    assume(plan["batch_size"] % ranks == 0)
    tail = plan["samples_per_epoch"] % plan["batch_size"]
    assume(plan["drop_last"] or not 0 < tail < ranks)
    whole = over_all_ranks(ResumableRandomSampler, plan, stop + 10)
    others = plan | {"data_parallel_size": ranks}
    went_on = over_all_ranks(ResumableRandomSampler, others, 10, processed_steps=stop)
    assert went_on == whole[stop:]


def test_another_batch_size_goes_on_at_the_same_sample() -> None:
    first = ResumableRandomSampler(20, batch_size=4, seed=3)
    before = taken(first, 2)
    rest = ResumableRandomSampler(20, batch_size=6)
    rest.load_state_dict(first.state_dict())
    after = taken(rest, 2)
    assert sorted(n for batch in before + after for n in batch) == list(range(20))


def test_epochs_differ_and_a_seed_names_an_order() -> None:
    first, second = (taken(ResumableRandomSampler(50, 5, seed=seed), 20) for seed in (1, 2))
    assert first[:10] != first[10:] and first != second
    assert first == taken(ResumableRandomSampler(50, 5, seed=1), 20)


def test_a_loop_that_was_left_early_begins_its_batches_again() -> None:
    sampler = ResumableSequentialSampler(6, 2, processed_steps=1)
    assert next(iter(sampler)) == [2, 3]
    assert list(sampler) == [[2, 3], [4, 5]]
    assert list(sampler) == [[0, 1], [2, 3], [4, 5]] and sampler.epoch == 2


def test_after_the_last_batch_the_rest_of_the_epoch_is_empty() -> None:
    sampler = ResumableSequentialSampler(4, 2)
    iterator = iter(sampler)
    assert [next(iterator), next(iterator)] == [[0, 1], [2, 3]]
    again = ResumableSequentialSampler(4, 2)
    again.load_state_dict(sampler.state_dict())
    assert (list(again), list(again)) == ([], [[0, 1], [2, 3]])


@pytest.mark.parametrize("length", [1, 2, 65_536, 65_537, 70_001])
def test_a_long_order_has_each_number_once(length: int) -> None:
    order = shuffled(length, 5, 0)
    assert sorted(order[n] for n in range(length)) == list(range(length))


def test_an_order_never_changes_between_versions_and_machines() -> None:
    assert shuffled(8, 1, 2) == [6, 0, 7, 2, 5, 3, 4, 1]
    order = shuffled(1_000_000_000_000, 1, 2)
    assert [order[n] for n in range(3)] == [364810006649, 963946978854, 508531989956]


def test_a_long_order_is_random_to_the_eye() -> None:
    length, cells = 80_000, [0] * 64
    order = shuffled(length, 9, 0)
    numbers = [order[n] for n in range(length)]
    for one, next_one in itertools.pairwise(numbers):
        cells[one * 8 // length * 8 + next_one * 8 // length] += 1
    expected = (length - 1) / 64
    assert sum((cell - expected) ** 2 / expected for cell in cells) < 120


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"samples_per_epoch": 9, "batch_size": 4, "data_parallel_size": 2}, "1 samples for 2"),
        ({"samples_per_epoch": 8, "batch_size": 3, "data_parallel_size": 2}, "batch_size=4"),
        ({"samples_per_epoch": 3, "batch_size": 4, "drop_last": True}, "no batch of 4"),
        ({"samples_per_epoch": 8, "batch_size": 4, "data_parallel_rank": 1}, "1 of 1"),
        ({"samples_per_epoch": 0, "batch_size": 4}, "1 or more"),
        ({"samples_per_epoch": 8, "batch_size": 4, "processed_steps": -1}, "from 0"),
        ({"samples_per_epoch": 8, "batch_size": 0, "drop_last": 4}, "True or False"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(arguments: Any, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        ResumableRandomSampler(**arguments)
    assert reason in f"{caught.value} {caught.value.hint}"


def test_a_state_of_other_data_is_refused() -> None:
    sampler = ResumableSequentialSampler(8, 4)
    for other in (
        ResumableSequentialSampler(9, 3).state_dict(),
        ResumableRandomSampler(8, 4).state_dict(),
        sampler.state_dict() | {"consumed": 9},
        {"epoch": 1},
    ):
        with pytest.raises(UsageError):
            sampler.load_state_dict(other)


def test_import_path_of_2022_gives_the_same_samplers() -> None:
    from periflow_sdk.dataloading import sampler

    assert sampler.ResumableRandomSampler is ResumableRandomSampler
    assert sampler.ResumableSequentialSampler is ResumableSequentialSampler
