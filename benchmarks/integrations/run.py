"""What the callbacks cost a training: small steps with and without them, in turns, in one training.

Every fifty steps another way of reporting is switched on, and twice in each round none. A way's
figure is the median over the rounds of its time a step against that round's control. All of them
are given the loss, at every step or at each N-th; in Lightning ours takes it at every step.

    python benchmarks/integrations/run.py [lightning] [transformers] [--log-every 1]
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
from pathlib import Path

import torch

import periflow_sdk as pf

folder = Path(tempfile.mkdtemp(prefix="pf-bench-"))
os.environ |= {
    "PERIFLOW_HOME": str(folder / "home"),
    "PERIFLOW_ENABLED": "1",
    "PERIFLOW_RUN_DIR": tempfile.mkdtemp(prefix="pf-bench-", dir="/dev/shm"),
    "CKPT_DIR": str(folder / "ckpt"),
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_DIR": str(folder),
    "WORLD_SIZE": "1",
    "NODE_RANK": "0",
    "NUM_NODES": "1",
    "PROCESSED_ITERS": "0",
}
WAYS = ("control", "PeriFlowCallback", "control again", "TensorBoard", "W&B")
GROUP, WARM_UP = 50, 50  # steps; a group takes longer than a callback may hold records back


class Turns:
    """Switches the ways, and times the steps of each.

    Args:
        steps: Steps of each way.
        width: Of the layers that are trained, which says how long a step takes.
        log_every: Steps from one log to the next.

    Attributes:
        switch: Makes a way the only one that is on; set by the training.
        seconds: Seconds a step of each way, by round.
        busy: The same, of the training thread's CPU time: nearly deaf to what else runs here.
    """

    def __init__(self, steps: int, width: int, log_every: int) -> None:
        self.width = width
        self.log_every = log_every
        self.rounds = steps // GROUP
        self.total = WARM_UP + self.rounds * len(WAYS) * (GROUP + 1) + 1
        self.switch: Callable[[str], None] = lambda way: None
        self.seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        self.busy: dict[str, list[float]] = {way: [] for way in WAYS}
        self._count, self._way, self._begin, self._busy = -WARM_UP, "", 0.0, 0.0

    def tick(self) -> None:
        """A step begins; the first one of a group is the switch's, and not timed."""
        place = self._count % (GROUP + 1)
        if self._count >= 0 and place == 0:
            if self._way:
                self.seconds[self._way].append((time.perf_counter() - self._begin) / GROUP)
                self.busy[self._way].append((time.thread_time() - self._busy) / GROUP)
            turn = self._count // (GROUP + 1)
            number, place_of_way = divmod(turn, len(WAYS))
            self._way = WAYS[(place_of_way + number) % len(WAYS)]  # each is first now and then
            self.switch(self._way)
        elif place == 1:
            self._begin, self._busy = time.perf_counter(), time.thread_time()
        self._count += 1


def network(width: int) -> torch.nn.Module:
    linear = torch.nn.Linear
    return torch.nn.Sequential(linear(width, width), torch.nn.ReLU(), linear(width, 1))


def train_by_lightning(turns: Turns) -> None:
    from lightning import pytorch as pl
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    from periflow_integrations.lightning import PeriFlowCallback

    class Model(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(turns.width)

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            turns.tick()
            loss = self.network(batch).pow(2).mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    loggers = {"TensorBoard": TensorBoardLogger(folder), "W&B": WandbLogger(save_dir=folder)}
    callback = PeriFlowCallback()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=turns.total,
        logger=list(loggers.values()),
        log_every_n_steps=turns.log_every,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )

    def switch(way: str) -> None:
        trainer.loggers = [loggers[way]] if way in loggers else []
        callback._changes.close()
        if way == "PeriFlowCallback":
            callback._enter(trainer)

    turns.switch = switch
    batches = [torch.randn(32, turns.width)] * turns.total
    trainer.fit(Model(), torch.utils.data.DataLoader(batches, batch_size=None))


def train_by_transformers(turns: Turns) -> None:
    import transformers
    from transformers.integrations import TensorBoardCallback, WandbCallback

    from periflow_integrations._transformers_adapter import skip_empty_hooks
    from periflow_integrations.transformers import PeriFlowCallback

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(turns.width)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            turns.tick()
            return {"loss": self.network(x).pow(2).mean()}

    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "out"),
        use_cpu=True,
        max_steps=turns.total,
        per_device_train_batch_size=32,
        logging_steps=turns.log_every,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    ours = PeriFlowCallback()
    ways = {
        "PeriFlowCallback": ours,
        "TensorBoard": TensorBoardCallback(),
        "W&B": WandbCallback(),
    }
    data = [{"x": row} for row in torch.randn(32 * turns.total, turns.width)]
    callbacks = list(ways.values())
    trainer = transformers.Trainer(Model(), arguments, train_dataset=data, callbacks=callbacks)
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    handler = trainer.callback_handler
    others = [other for other in handler.callbacks if other not in callbacks]

    def switch(way: str) -> None:
        ours._unskip()
        handler.callbacks = [*others, ways[way]] if way in ways else others
        if way == "PeriFlowCallback":
            ours._unskip = skip_empty_hooks(handler)

    turns.switch = switch
    trainer.train()


def measure(title: str, train: Callable[[Turns], None], turns: Turns) -> None:
    train(turns)
    pf.finish()
    print(
        f"\n{title}, logged every {turns.log_every}: {turns.rounds * GROUP} steps of each; "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    print("| way | µs a step | against the control | quartiles | CPU against it |")
    print("| --- | --- | --- | --- | --- |")
    for way in WAYS:
        low, middle, high = against_control(turns.seconds, way)
        _, busy, _ = against_control(turns.busy, way)
        step = statistics.median(turns.seconds[way]) * 1e6
        print(f"| {way} | {step:.0f} | {middle:.3f} | {low:.3f} to {high:.3f} | {busy:.3f} |")


def against_control(times: dict[str, list[float]], way: str) -> list[float]:
    """The quartiles of a way's time against the control's of the same round."""
    pairs = zip(times[way], times["control"], strict=False)
    return statistics.quantiles([mine / other for mine, other in pairs], n=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frameworks", nargs="*", default=["lightning", "transformers"])
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--log-every", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.chdir(folder)
    gc.collect()
    gc.freeze()
    trainings = {"lightning": train_by_lightning, "transformers": train_by_transformers}
    for name in options.frameworks:
        measure(name, trainings[name], Turns(options.steps, options.width, options.log_every))


if __name__ == "__main__":
    main()
