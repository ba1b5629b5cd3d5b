"""What the callbacks cost a training, as users run it: whole trainings, in turns.

Each training has a process of its own, forked from one that has imported everything, and is
timed from the first step to the end of the fit. A way's figure is the median over the rounds of
its time against that round's control. What was imported is kept from the garbage collector: one
look at all of it takes as long as 150 steps, and falls into one training and not into another.

    python benchmarks/integrations/whole.py [lightning] [transformers] [--rounds 7] [--log-every N]
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch
import transformers
from lightning import pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from run import WAYS, folder, network
from transformers.integrations import TensorBoardCallback, WandbCallback

import periflow_sdk as pf
from periflow_integrations.lightning import PeriFlowCallback as OfLightning
from periflow_integrations.transformers import PeriFlowCallback as OfTransformers

OURS = "PeriFlowCallback"


class Clock:
    """Knows when a training began its first step."""

    begin = 0.0

    def tick(self) -> None:
        if not self.begin:
            gc.collect()
            self.begin = time.perf_counter()


def fit_by_lightning(way: str, options: argparse.Namespace) -> float:
    clock = Clock()

    class Model(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(options.width)

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            clock.tick()
            loss = self.network(batch).pow(2).mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    loggers: dict[str, Callable[[], Any]] = {
        "TensorBoard": lambda: TensorBoardLogger(folder),
        "W&B": lambda: WandbLogger(save_dir=folder),
    }
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=options.steps,
        logger=loggers[way]() if way in loggers else False,
        log_every_n_steps=options.log_every or 50,
        callbacks=[OfLightning()] if way == OURS else [],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = [torch.randn(32, options.width)] * options.steps
    trainer.fit(Model(), torch.utils.data.DataLoader(batches, batch_size=None))
    return time.perf_counter() - clock.begin


def fit_by_transformers(way: str, options: argparse.Namespace) -> float:
    clock = Clock()

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(options.width)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            clock.tick()
            return {"loss": self.network(x).pow(2).mean()}

    ways = {OURS: OfTransformers, "TensorBoard": TensorBoardCallback, "W&B": WandbCallback}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "out"),
        use_cpu=True,
        max_steps=options.steps,
        per_device_train_batch_size=32,
        logging_steps=options.log_every or 500,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    rows = [{"x": row} for row in torch.randn(64, options.width)] * (options.steps // 2)
    trainer = transformers.Trainer(
        Model(), arguments, train_dataset=rows, callbacks=[ways[way]()] if way in ways else []
    )
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    trainer.train()
    return time.perf_counter() - clock.begin


FITS = {"lightning": fit_by_lightning, "transformers": fit_by_transformers}


def _fit(name: str, way: str, options: argparse.Namespace, answers: SimpleQueue[float]) -> None:
    os.environ["PERIFLOW_RUN_DIR"] = tempfile.mkdtemp(prefix="pf-bench-", dir="/dev/shm")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.chdir(folder)
    answers.put(FITS[name](way, options))
    pf.finish()


def measure(name: str, options: argparse.Namespace) -> None:
    context = get_context("fork")
    answers: SimpleQueue[float] = context.SimpleQueue()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for place in range(len(WAYS)):
            way = WAYS[(place + number) % len(WAYS)]
            process = context.Process(target=_fit, args=(name, way, options, answers))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{name} with {way} failed with exit code {process.exitcode}.")
            seconds[way].append(answers.get())
    every = options.log_every or "the framework's default"
    print(f"\n{name}: logged every {every}; load {os.getloadavg()[0]:.1f}\n")
    print("| way | µs a step | against the control | range |")
    print("| --- | --- | --- | --- |")
    for way in WAYS:
        pairs = zip(seconds[way], seconds["control"], strict=True)
        ratios = [mine / control for mine, control in pairs]
        step = statistics.median(seconds[way]) / options.steps * 1e6
        middle = statistics.median(ratios)
        print(f"| {way} | {step:.0f} | {middle:.3f} | {min(ratios):.3f} to {max(ratios):.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frameworks", nargs="*", default=list(FITS))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--log-every", type=int, default=0)
    options = parser.parse_args()
    gc.collect()
    gc.freeze()
    for name in options.frameworks:
        measure(name, options)


if __name__ == "__main__":
    main()
