"""Trainings that are killed and go on, to be compared with ones that were not.

One process imports torch; each training is a fork of it. The killed one goes on where a SIGKILL had
ended it, in the middle of an epoch and in the next one. Every step is written to ``seen``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warm_python import warm_python

TOTAL, EVERY = 16, 3
KILLED_AT = (4, 11)


def play(
    base: Path,
    name: str,
    make: Callable[[], tuple[Any, Any]],
    variables: dict[str, str],
    *,
    is_stateful: bool,
    remake: Callable[[], tuple[Any, Any]] | None = None,
) -> None:
    """Train once undisturbed, in ``NAME-whole``, and once with kills, in ``NAME-killed``.

    Args:
        make: Makes a loader, whose batches JSON can take, and the sampler of its batches.
        variables: Of the training's environment.
        is_stateful: Whether the loader's own state is in the checkpoints.
        remake: Makes the loader of the last part of the killed training; default: ``make``.
    """
    whole, killed = base / f"{name}-whole", base / f"{name}-killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert _run(whole, make, variables, is_stateful, None) == 0
    for kill_at in KILLED_AT:
        assert _run(killed, make, variables, is_stateful, kill_at) == -signal.SIGKILL
    assert _run(killed, remake or make, variables, is_stateful, None) == 0


def _run(folder: Path, *rest: Any) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _train(folder, *rest)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _train(
    folder: Path,
    make: Callable[[], tuple[Any, Any]],
    variables: dict[str, str],
    is_stateful: bool,
    kill_at: int | None,
) -> None:
    import torch

    import periflow_sdk as pf

    os.environ |= {**variables, "CKPT_DIR": str(folder / "ckpt")}
    loader, sampler = make()
    pf.init(total_train_steps=TOTAL)
    path = pf.latest_checkpoint()
    if not is_stateful:
        sampler.set_processed_steps(pf.current_step())
    elif path is not None:
        loader.load_state_dict(torch.load(path)["loader"])
    seen = (folder / "seen").open("a")
    while pf.current_step() < TOTAL:
        for batch in loader:
            with pf.train_step():
                step = pf.current_step()
                print(json.dumps([step, batch]), file=seen, flush=True)
                if step == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            if step % EVERY == 0:
                pf.save_checkpoint({"loader": loader.state_dict() if is_stateful else None})
            if step == TOTAL:
                break
    pf.finish()


def play_script(script: str, base: Path, *words: object) -> None:
    """Run a script that plays, in a process of its own."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PERIFLOW_")}
    variables |= {"PERIFLOW_HOME": str(base / "home"), "OMP_NUM_THREADS": "1"}
    variables["PYTHONPATH"] = str(Path(__file__).parent)
    done = subprocess.run(
        [warm_python(), "-c", script, str(base), *map(str, words)],
        env=variables,
        text=True,
        capture_output=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def steps(folder: Path) -> list[tuple[int, list[Any]]]:
    """What a training has seen: steps, each with its samples."""
    return [tuple(json.loads(line)) for line in (folder / "seen").read_text().splitlines()]


def assert_same_samples(base: Path, count: int) -> None:
    """Every killed training has seen at each step what its undisturbed twin saw."""
    wholes = sorted(base.glob("*-whole"))
    assert len(wholes) == count
    for whole in wholes:
        expected = dict(steps(whole))
        assert list(expected) == list(range(1, 17))
        killed = steps(whole.with_name(whole.name.replace("whole", "killed")))
        assert [step for step, _ in killed] == [1, 2, 3, 4, *range(4, 12), *range(10, 17)]
        assert all(samples == expected[step] for step, samples in killed)
