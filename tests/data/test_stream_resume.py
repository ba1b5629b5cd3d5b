"""A streamed run that is killed and resumed sees the very next sample, with real workers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("torch")

SAMPLES = 23  # in unequal shards: 11 for each of two ranks, 6 batches an epoch
BATCHES = 6

# One process imports torch; each run is a fork of it, which goes on where a SIGKILL had ended it,
# in the middle of an epoch and in the next one. In the case "steps" with another number of workers.
SCRIPT = textwrap.dedent("""
    import json, os, signal, sys
    from pathlib import Path
    import torch
    from torch.utils.data import DataLoader
    from torchdata.stateful_dataloader import StatefulDataLoader
    import periflow_sdk as pf
    from periflow_sdk.data import stream

    TOTAL, EVERY = 16, 3

    def key(sample):
        return sample["__key__"]

    def train(folder, layout, way, rank, workers, kill_at):
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "CKPT_DIR": str(folder / "ckpt")}
        samples = stream(base / layout, shuffle=True, seed=7, transform=key)
        batches = samples.batches(2)
        make = StatefulDataLoader if way == "stateful" else DataLoader
        loader = make(samples, batch_sampler=batches, num_workers=workers,
                      persistent_workers=workers > 0)
        pf.init(total_train_steps=TOTAL)
        path = pf.latest_checkpoint()
        if way == "stateful" and path is not None:
            loader.load_state_dict(torch.load(path)["loader"])
        elif way == "steps":
            batches.set_processed_steps(pf.current_step())
        seen = (folder / "seen").open("a")
        while pf.current_step() < TOTAL:
            for batch in loader:
                with pf.train_step():
                    step = pf.current_step()
                    print(json.dumps([step, batch]), file=seen, flush=True)
                    if step == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                if step % EVERY == 0:
                    state = loader.state_dict() if way == "stateful" else None
                    pf.save_checkpoint({"loader": state})
                if step == TOTAL:
                    break
        pf.finish()

    def run(*arguments):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                train(*arguments)
                code = 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    torch.set_num_threads(1)
    base, workers = Path(sys.argv[1]), int(sys.argv[2])
    for case in (("tar", "steps"), ("tar", "stateful"), ("files", "stateful")):
        for rank in range(2):
            whole, killed = (base / "-".join((*case, str(rank), n)) for n in ("whole", "killed"))
            whole.mkdir(), killed.mkdir()
            assert run(whole, *case, rank, workers, None) == 0
            for kill_at in (4, 11):
                assert run(killed, *case, rank, workers, kill_at) == -signal.SIGKILL
            others = (workers + 1) % 3 if case[1] == "steps" else workers
            assert run(killed, *case, rank, others, None) == 0
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


def steps(folder: Path) -> list[tuple[int, list[str]]]:
    return [tuple(json.loads(line)) for line in (folder / "seen").read_text().splitlines()]


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_run_sees_the_very_next_sample(tmp_path: Path, workers: int) -> None:
    make_data(tmp_path)
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PERIFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(workers)],
        env=variables | {"PERIFLOW_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wholes = sorted(tmp_path.glob("*-whole"))
    assert len(wholes) == 6
    for whole in wholes:
        expected = dict(steps(whole))
        assert list(expected) == list(range(1, 17))
        killed = steps(whole.with_name(whole.name.replace("whole", "killed")))
        assert [step for step, _ in killed] == [1, 2, 3, 4, *range(4, 12), *range(10, 17)]
        assert all(samples == expected[step] for step, samples in killed)
    for case in ("tar-steps", "files-stateful"):
        runs = [dict(steps(tmp_path / f"{case}-{rank}-whole")) for rank in (0, 1)]
        for epoch in range(2):
            span = range(epoch * BATCHES + 1, (epoch + 1) * BATCHES + 1)
            keys = [key for run in runs for step in span for key in run[step]]
            assert len(keys) == len(set(keys)) == SAMPLES - 1
        assert runs[0][1] != runs[0][1 + BATCHES]
