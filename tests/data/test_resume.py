"""A run that is killed and resumed sees the samples, in order, of one that was not."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from killed_training import assert_same_samples, play_script, steps

pytest.importorskip("torch")

SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path
    import torch
    from killed_training import play
    from torch.utils.data import DataLoader
    from torchdata.stateful_dataloader import StatefulDataLoader
    from periflow_sdk.data import ResumableRandomSampler, ResumableSequentialSampler

    SAMPLES = 22
    KINDS = {"random": ResumableRandomSampler, "sequential": ResumableSequentialSampler}

    torch.set_num_threads(1)
    base, ranks, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for kind, way in (("random", "steps"), ("random", "stateful"), ("sequential", "stateful")):
        for rank in range(ranks):
            def make():
                sampler = KINDS[kind](SAMPLES, batch_size=4, data_parallel_rank=rank,
                                      data_parallel_size=ranks)
                loader = StatefulDataLoader if way == "stateful" else DataLoader
                return loader(range(SAMPLES), batch_sampler=sampler, num_workers=workers,
                              collate_fn=list), sampler

            name, is_stateful = f"{kind}-{way}-{rank}", way == "stateful"
            play(base, name, make, {"RANK": str(rank)}, is_stateful=is_stateful)
""")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_and_resumed_run_sees_what_an_undisturbed_one_sees(
    tmp_path: Path, ranks: int, workers: int
) -> None:
    play_script(SCRIPT, tmp_path, ranks, workers)
    assert_same_samples(tmp_path, 3 * ranks)
    for kind in ("random-steps", "sequential-stateful"):
        epoch = [
            n
            for rank in range(ranks)
            for step, batch in steps(tmp_path / f"{kind}-{rank}-whole")
            if step <= 6
            for n in batch
        ]
        assert sorted(epoch) == list(range(22))
