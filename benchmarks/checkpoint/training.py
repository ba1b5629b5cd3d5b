"""The training of the checkpoint benchmark: runs as a job, prints one JSON document."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import periflow_sdk as pf

TENSORS = 50
SETTLE_SECONDS = 120.0
STEP_SIZE = 600
BLOCK_SECONDS = 6.0


def main() -> None:
    rounds, size, blocks = (int(text) for text in sys.argv[1:4])
    torch.set_num_threads(1)
    pf.init()
    wait_for_worker()
    state = {f"layer{n}": torch.randn(size // 4 // TENSORS) for n in range(TENSORS)}
    stalls = stall(state, rounds)
    losses = loss(state, blocks)
    print("RESULT " + json.dumps({"stall": stalls, **losses, "status": repr(pf.status())}))
    pf.finish()


def wait_for_worker() -> None:
    """The agent starts its worker beside the training; until then training writes itself."""
    from periflow_sdk._memory_stage import WORKER_LOCK, MemoryStage

    run_dir = Path(os.environ["PERIFLOW_RUN_DIR"])
    stage = MemoryStage(run_dir / "rank-0", run_dir / WORKER_LOCK)
    while not stage.is_served():
        time.sleep(0.05)


def stall(state: dict[str, torch.Tensor], rounds: int) -> dict[str, list[float]]:
    """Seconds for which each way holds the training thread, by turns."""
    folder = Path(os.environ["CKPT_DIR"])
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    target = {name: torch.ones_like(tensor) for name, tensor in state.items()}

    def copy() -> None:
        for name, tensor in state.items():
            target[name].copy_(tensor)

    def upload() -> pf.Upload:
        return pf.upload_checkpoint(folder / "script.pt")

    ways: dict[str, Callable[[], Any]] = {
        "plain copy": copy,
        "torch.save": lambda: torch.save(state, elsewhere / "plain.pt"),
        "save_checkpoint": lambda: pf.save_checkpoint(state),
        "upload_checkpoint": upload,
        **dcp(state, elsewhere),
    }
    seconds: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            train(state)
            if name == "upload_checkpoint":
                torch.save(state, folder / "script.pt")
            start = time.perf_counter()
            result = way()
            took = time.perf_counter() - start
            settle(result)
            label = f"{name}, first" if number == 0 and name == "save_checkpoint" else name
            if number or label != name:
                seconds.setdefault(label, []).append(took)
    shutil.rmtree(elsewhere)
    return seconds


def dcp(state: dict[str, torch.Tensor], folder: Path) -> dict[str, Callable[[], Any]]:
    """The asynchronous save of torch itself."""
    try:
        from torch.distributed import checkpoint
    except ImportError:
        return {}
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    def save() -> Any:
        shutil.rmtree(folder / "dcp", ignore_errors=True)
        return checkpoint.async_save(state, checkpoint_id=folder / "dcp", no_dist=True)

    return {"DCP async_save": save}


def train(state: dict[str, torch.Tensor]) -> None:
    """Change every weight: no chunk of the last checkpoint is one of the next."""
    for tensor in state.values():
        tensor.add_(1e-3)


def settle(result: Any) -> None:
    """Wait until nothing is under way: the next turn has the machine for itself."""
    with pf.train_step():
        pass
    with pf.train_step():
        pass
    if isinstance(result, pf.Upload):
        assert result.error is None and result.wait(SETTLE_SECONDS), result
    elif result is not None:
        result.result()


def loss(state: dict[str, torch.Tensor], blocks: int) -> dict[str, Any]:
    """Seconds that a block of steps takes longer with a checkpoint in it, upload included.

    Each such block stands between two without one, so that a drift of the machine cancels out;
    half the difference of these two is what the machine does by itself.
    """
    matrix = torch.randn(STEP_SIZE, STEP_SIZE)
    lost: list[float] = []
    worst: dict[str, list[float]] = {"without": [], "with": []}

    def block(save: bool, steps: int) -> tuple[float, list[float], Any]:
        upload, times = None, []
        start = time.perf_counter()
        for number in range(steps):
            before = time.perf_counter()
            with pf.train_step():
                (matrix @ matrix).sum()
            if number:
                times.append(time.perf_counter() - before)
            if number == 0 and save:
                upload = pf.save_checkpoint(state)
        return time.perf_counter() - start, times, upload

    _, times, _ = block(False, 50)
    steps = int(BLOCK_SECONDS / (sum(times) / len(times)))
    noise, within = [], []
    for _ in range(blocks):
        earlier, times, _ = block(False, steps)
        worst["without"].append(max(times))
        train(state)
        longer, times, upload = block(True, steps)
        worst["with"].append(max(times))
        within.append(upload.done)
        settle(upload)
        later, times, _ = block(False, steps)
        worst["without"].append(max(times))
        lost.append(longer - (earlier + later) / 2)
        noise.append((later - earlier) / 2)
    return {
        "lost": lost,
        "noise": noise,
        "worst step": worst,
        "uploaded within": sum(within),
        "steps": steps,
    }


if __name__ == "__main__":
    main()
