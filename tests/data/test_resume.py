"""A run that is killed and resumed sees the samples, in order, of one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("torch")

# One process imports torch; each run is a fork of it, which the second and third time goes on
# where a SIGKILL had ended it, in the middle of an epoch and in the next one.
SCRIPT = textwrap.dedent("""
    import json, os, signal, sys
    from pathlib import Path
    import torch
    from torch.utils.data import DataLoader
    from torchdata.stateful_dataloader import StatefulDataLoader
    import periflow_sdk as pf
    from periflow_sdk.data import ResumableRandomSampler, ResumableSequentialSampler

    TOTAL, SAMPLES, EVERY = 16, 22, 3
    KINDS = {"random": ResumableRandomSampler, "sequential": ResumableSequentialSampler}

    def train(folder, kind, way, rank, ranks, workers, kill_at):
        os.environ |= {"RANK": str(rank), "CKPT_DIR": str(folder / "ckpt")}
        data = torch.arange(SAMPLES)
        sampler = KINDS[kind](SAMPLES, batch_size=4, data_parallel_rank=rank,
                              data_parallel_size=ranks)
        make = StatefulDataLoader if way == "stateful" else DataLoader
        loader = make(data, batch_sampler=sampler, num_workers=workers)
        pf.init(total_train_steps=TOTAL)
        path = pf.latest_checkpoint()
        if way == "stateful" and path is not None:
            loader.load_state_dict(torch.load(path)["loader"])
        elif way == "steps":
            sampler.set_processed_steps(pf.current_step())
        seen = (folder / "seen").open("a")
        while pf.current_step() < TOTAL:
            for batch in loader:
                with pf.train_step():
                    step = pf.current_step()
                    print(json.dumps([step, batch.tolist()]), file=seen, flush=True)
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
    base, ranks, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for case in (("random", "steps"), ("random", "stateful"), ("sequential", "stateful")):
        for rank in range(ranks):
            whole, killed = (base / "-".join((*case, str(rank), n)) for n in ("whole", "killed"))
            whole.mkdir(), killed.mkdir()
            assert run(whole, *case, rank, ranks, workers, None) == 0
            for kill_at in (4, 11):
                assert run(killed, *case, rank, ranks, workers, kill_at) == -signal.SIGKILL
            assert run(killed, *case, rank, ranks, workers, None) == 0
""")


def steps(folder: Path) -> list[tuple[int, list[int]]]:
    return [tuple(json.loads(line)) for line in (folder / "seen").read_text().splitlines()]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_and_resumed_run_sees_what_an_undisturbed_one_sees(
    tmp_path: Path, ranks: int, workers: int
) -> None:
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PERIFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(ranks), str(workers)],
        env=variables | {"PERIFLOW_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wholes = sorted(tmp_path.glob("*-whole"))
    assert len(wholes) == 3 * ranks
    for whole in wholes:
        expected = dict(steps(whole))
        assert list(expected) == list(range(1, 17))
        killed = steps(whole.with_name(whole.name.replace("whole", "killed")))
        assert [step for step, _ in killed] == [1, 2, 3, 4, *range(4, 12), *range(10, 17)]
        assert all(samples == expected[step] for step, samples in killed)
    for kind in ("random-steps", "sequential-stateful"):
        epoch = [
            n
            for rank in range(ranks)
            for step, batch in steps(tmp_path / f"{kind}-{rank}-whole")
            if step <= 6
            for n in batch
        ]
        assert sorted(epoch) == list(range(22))
