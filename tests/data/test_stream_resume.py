"""A streamed run that is killed and resumed sees the very next sample, with real workers."""

from __future__ import annotations

import io
import tarfile
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
from killed_training import assert_same_samples, play_script, steps

pytest.importorskip("torch")

SAMPLES = 23  # in unequal shards: 11 for each of two ranks, 6 batches an epoch
BATCHES = 6

# In the case "steps" the last part has another number of workers.
SCRIPT = textwrap.dedent("""
    import sys
    from functools import partial
    from pathlib import Path
    import torch
    from killed_training import play
    from torch.utils.data import DataLoader
    from torchdata.stateful_dataloader import StatefulDataLoader
    from periflow_sdk.data import stream

    def key(sample):
        return sample["__key__"]

    def make(layout, way, workers):
        samples = stream(base / layout, shuffle=True, seed=7, transform=key)
        batches = samples.batches(2)
        loader = StatefulDataLoader if way == "stateful" else DataLoader
        return loader(samples, batch_sampler=batches, num_workers=workers,
                      persistent_workers=workers > 0), batches

    torch.set_num_threads(1)
    base, workers = Path(sys.argv[1]), int(sys.argv[2])
    for layout, way in (("tar", "steps"), ("tar", "stateful"), ("files", "stateful")):
        others = (workers + 1) % 3 if way == "steps" else workers
        for rank in range(2):
            play(
                base,
                f"{layout}-{way}-{rank}",
                partial(make, layout, way, workers),
                {"RANK": str(rank), "WORLD_SIZE": "2"},
                is_stateful=way == "stateful",
                remake=partial(make, layout, way, others),
            )
""")


def make_data(base: Path) -> None:
    names = [f"{number:02}.bin" for number in range(SAMPLES)]
    (base / "files").mkdir()
    (base / "tar").mkdir()
    for name in names:
        (base / "files" / name).write_bytes(name.encode())
    for first, last in pairwise((0, 5, 16, SAMPLES)):
        with tarfile.open(base / f"tar/{first:02}.tar", "w") as tar:
            for name in names[first:last]:
                info = tarfile.TarInfo(name)
                info.size = len(name)
                tar.addfile(info, io.BytesIO(name.encode()))


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_run_sees_the_very_next_sample(tmp_path: Path, workers: int) -> None:
    make_data(tmp_path)
    play_script(SCRIPT, tmp_path, workers)
    assert_same_samples(tmp_path, 6)
    for case in ("tar-steps", "files-stateful"):
        runs = [dict(steps(tmp_path / f"{case}-{rank}-whole")) for rank in (0, 1)]
        for epoch in range(2):
            span = range(epoch * BATCHES + 1, (epoch + 1) * BATCHES + 1)
            keys = [key for run in runs for step in span for key in run[step]]
            assert len(keys) == len(set(keys)) == SAMPLES - 1
        assert runs[0][1] != runs[0][1 + BATCHES]
