"""PeriFlow's parts of Lightning, in this process: one rank of a job, or none."""

from __future__ import annotations

import importlib
import time
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from lightning import pytorch as lightning

import periflow_sdk as pf
from periflow_integrations import _framework, _lightning_adapter, _run
from periflow_integrations.lightning import PeriFlowCallback, PeriFlowLogger, PeriFlowTrainer
from periflow_sdk import _control as word
from periflow_sdk._journal import Journal

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
pytestmark = pytest.mark.filterwarnings("ignore")


def model(pl: ModuleType = lightning, optimizers: int = 1, every: int = 1) -> Any:
    """A model whose loss at step k is 1 - k; several optimizers step by hand, every so often."""

    class Model(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = optimizers == 1
            self.weights = torch.nn.ParameterList([torch.zeros(1) for _ in range(optimizers)])

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            loss = self.weights[0].sum()
            self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
            if index % 3 == 0:
                self.log("seldom", batch.mean())
            if not self.automatic_optimization and index % every == every - 1:
                for weight, optimizer in zip(self.weights, self.optimizers(), strict=True):
                    optimizer.zero_grad()
                    self.manual_backward(weight.sum())
                    optimizer.step()
            return loss

        def on_train_batch_end(self, *args: Any) -> None:
            self.log("late", self.weights[0].sum())

        def validation_step(self, batch: torch.Tensor, index: int) -> None:
            self.log("val", self.weights[0].sum())

        def configure_optimizers(self) -> Any:
            found = [torch.optim.SGD([weight], lr=1.0) for weight in self.weights]
            return found[0] if optimizers == 1 else found

    return Model()


def batches(count: int) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(torch.arange(float(count)), batch_size=1)


def trainer(*callbacks: Any, pl: ModuleType = lightning, **options: Any) -> Any:
    options.setdefault(
        "enable_checkpointing", any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks)
    )
    return pl.Trainer(callbacks=list(callbacks), **{**QUIET, **options})


def points(job: Any) -> dict[str, list[tuple[int, float]]]:
    """The points of each metric, in the order they were recorded."""
    found = defaultdict(list)
    for step, values in job.metrics():
        for name, value in values.items():
            found[name].append((step, value))
    return found


def uploads(job: Any) -> list[tuple[int, str, list[str]]]:
    """The uploaded checkpoints: step, save type, files."""
    records = job.records(kind="checkpoint")
    return [(r["s"], r["save"], [file["path"] for file in r["files"]]) for r in records]


class Notice:
    """Plays the agent: once a step is done, it settles on the next one for all to save at."""

    def __init__(self, job: Any, step: int) -> None:
        self.job, self.step = job, step

    def callback(self, pl: ModuleType = lightning) -> Any:
        def settle(trainer: Any, *args: Any) -> None:
            if pf.current_step() == self.step:
                self.job.tell(word.EMERGENCY, self.step + 1)
                self.job.tell(word.COMMITTED, self.step + 1)

        return pl.callbacks.LambdaCallback(on_train_batch_end=settle)

    def take_back(self) -> None:
        self.job.tell(word.EMERGENCY, 0)
        self.job.tell(word.COMMITTED, 0)


class SlowIO(lightning.plugins.TorchCheckpointIO):
    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(0.2)
        super().save_checkpoint(*args, **kwargs)


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_one_line_gives_total_steps_metrics_and_checkpoints(job, name) -> None:
    pl = importlib.import_module(name)
    checkpoint = pl.callbacks.ModelCheckpoint(save_last=True)
    fit = trainer(checkpoint, PeriFlowCallback(), pl=pl, max_epochs=2, accumulate_grad_batches=2)
    fit.fit(model(pl), batches(5), batches(2))
    assert job.word("progress", word.TOTAL) == job.word("progress", word.FINISHED) == 6
    assert [record["s"] for record in job.records(kind="step")] == [1, 2, 3, 4, 5, 6]
    found = points(job)
    # The last batch of an epoch is alone in its step, with half the gradient.
    weights = [0.0, -1.0, -2.0, -2.5, -3.5, -4.5, -5.0]
    assert found["loss_step"] == list(enumerate(weights[:-1], 1))
    assert found["late"] == list(enumerate(weights[1:], 1))
    assert found["val"] == [(3, -2.5), (6, -5.0)]
    assert [step for step, _ in found["loss_epoch"]] == [3, 6]
    assert [step for step, _ in found["seldom"]] == [1, 2, 4, 5]
    # The best file and last.ckpt of a step hold the same state: one checkpoint.
    assert uploads(job) == [
        (3, "NORMAL", ["epoch=0-step=3.ckpt"]),
        (6, "NORMAL", ["epoch=1-step=6.ckpt"]),
    ]


def test_step_is_a_batch_in_which_optimizers_step(job) -> None:
    fit = trainer(PeriFlowCallback(), max_epochs=1)
    fit.fit(model(optimizers=2), batches(3))
    assert fit.global_step == 6  # Lightning counts every optimizer
    assert pf.status().step == pf.status().total_steps == 3
    fit = trainer(PeriFlowCallback(), max_epochs=1)
    fit.fit(model(optimizers=2, every=2), batches(4))
    assert fit.global_step == 4 and pf.status().step == 3 + 2


@pytest.mark.parametrize("is_async", [False, True])
def test_emergency_save_is_written_when_training_leaves(job, is_async) -> None:
    checkpoint = lightning.callbacks.ModelCheckpoint(every_n_train_steps=1, save_top_k=-1)
    notice = Notice(job, 2)
    plugins = [lightning.plugins.io.AsyncCheckpointIO(SlowIO())] if is_async else None
    plan = {"max_epochs": 3, "min_epochs": 3, "min_steps": 9}
    fit = trainer(notice.callback(), PeriFlowCallback(), checkpoint, plugins=plugins, **plan)
    fit.fit(model(), batches(4), batches(1))
    assert fit.global_step == 3 and "val" not in points(job)
    assert job.word("progress", word.STOP_SEEN) == 1
    assert uploads(job) == [
        (1, "NORMAL", ["epoch=0-step=1.ckpt"]),
        (2, "NORMAL", ["epoch=0-step=2.ckpt"]),
        (3, "EMERGENCY", ["emergency-step=3.ckpt"]),
    ]
    path = pf.latest_checkpoint()
    assert path == job.checkpoints / "emergency-step=3.ckpt"
    assert job.records(kind="checkpoint")[-1]["files"][0]["size"] == path.stat().st_size
    notice.take_back()
    again = trainer(PeriFlowCallback(), max_epochs=3)
    again.fit(model(), batches(4), batches(1), ckpt_path=path)
    assert again.global_step == pf.current_step() == 12
    assert points(job)["loss_step"] == [(k, 1.0 - k) for k in range(1, 13)]


def test_checkpoint_of_an_exception_is_of_the_last_whole_step(job) -> None:
    def fail(trainer: Any, *args: Any) -> None:
        if trainer.global_step == 2:
            raise RuntimeError("as it happens")

    on_exception = lightning.callbacks.OnExceptionCheckpoint(job.checkpoints)
    failing = lightning.callbacks.LambdaCallback(on_before_backward=fail)
    with pytest.raises(RuntimeError, match="as it happens"):
        trainer(PeriFlowCallback(), failing, on_exception).fit(model(), batches(5))
    assert uploads(job) == [(2, "NORMAL", ["on_exception.ckpt"])]
    assert pf.current_step() == 2


def test_sharded_checkpoint_is_taken_as_a_folder(job) -> None:
    class Sharded(lightning.strategies.SingleDeviceStrategy):
        def save_checkpoint(self, checkpoint: Any, filepath: Any, storage_options: Any) -> None:
            state = {"state_dict": checkpoint["state_dict"]}
            dcp.save(state, checkpoint_id=filepath, no_dist=True)

    fit = trainer(PeriFlowCallback(), strategy=Sharded(device=torch.device("cpu")), max_epochs=1)
    fit.fit(model(), batches(2))
    fit.save_checkpoint(job.checkpoints / "sharded")
    assert uploads(job) == [(2, "NORMAL", ["sharded/.metadata", "sharded/__0_0.distcp"])]


def test_weights_alone_are_no_checkpoint_to_go_on_from(job, capfd) -> None:
    weights = lightning.callbacks.ModelCheckpoint(every_n_train_steps=1, save_weights_only=True)
    fit = trainer(PeriFlowCallback(), weights, max_epochs=1)
    fit.fit(model(), batches(3))
    assert uploads(job) == [] and capfd.readouterr().err.count("weights only") == 1
    fit.save_checkpoint(job.checkpoints / "final.ckpt", weights_only=True)
    assert uploads(job) == [(3, "NORMAL", ["final.ckpt"])]


def test_file_deep_in_the_checkpoint_folder_is_an_entry_of_its_own(job) -> None:
    folder = job.checkpoints / "deep/down"
    checkpoint = lightning.callbacks.ModelCheckpoint(folder, every_n_train_steps=1)
    trainer(PeriFlowCallback(), checkpoint, max_epochs=1).fit(model(), batches(2))
    assert uploads(job) == [
        (1, "NORMAL", ["epoch=0-step=1.ckpt"]),
        (2, "NORMAL", ["epoch=0-step=2.ckpt"]),
    ]
    tops = {path.name for path in job.checkpoints.iterdir()}
    assert tops == {".periflow", "deep", "epoch=0-step=2.ckpt"}
    assert pf.latest_checkpoint() == job.checkpoints / "epoch=0-step=2.ckpt"


def test_early_stopping_ends_the_run_early(job) -> None:
    stopping = lightning.callbacks.EarlyStopping("late", mode="max", patience=1)
    fit = trainer(PeriFlowCallback(), stopping, max_epochs=9)
    fit.fit(model(), batches(2))
    assert pf.status().step < pf.status().total_steps == 18
    pf.metric({"after": 1})  # the run is open for what the script does next
    _run._at_exit()
    assert job.word("progress", word.EARLY) == 1
    assert job.word("progress", word.STATE) == word.DONE


def test_training_that_begins_anew_in_a_job_that_goes_on_is_told(job, monkeypatch, capfd) -> None:
    monkeypatch.setenv("PROCESSED_ITERS", "4")
    trainer(PeriFlowCallback(), max_epochs=1).fit(model(), batches(6))
    assert "ckpt_path=pf.latest_checkpoint()" in capfd.readouterr().err


def test_all_parts_together_are_one(job) -> None:
    rates = lightning.callbacks.LearningRateMonitor("step")
    callbacks = [PeriFlowCallback(), PeriFlowCallback(), rates]
    options = {**QUIET, "logger": PeriFlowLogger(), "log_every_n_steps": 1}
    fit = PeriFlowTrainer(callbacks=callbacks, max_epochs=1, **options)
    fit.fit(model(), batches(3), batches(1))
    found = points(job)
    assert pf.status().step == 3 and len(uploads(job)) == 1
    for name in ("loss_step", "late", "lr-SGD"):
        assert [step for step, _ in found[name]] == [1, 2, 3], name
    assert len(found["val"]) == len(found["loss_epoch"]) == 1


@pytest.mark.parametrize("part", ["logger", "trainer"])
def test_logger_or_trainer_alone_brings_the_callback_along(job, part) -> None:
    logger = PeriFlowLogger()
    options: dict[str, Any] = {**QUIET, "max_epochs": 1}
    if part == "logger":
        logger.log_hyperparams({"depth": 3})
        fit = lightning.Trainer(**{**options, "logger": logger})
    else:
        fit = PeriFlowTrainer(**options)
    fit.fit(model(), batches(3))
    assert pf.status().step == pf.status().total_steps == 3
    assert points(job)["loss_step"] == [(k, 1.0 - k) for k in range(1, 4)]
    if part == "logger":
        assert job.records(kind="config")[0]["config"] == {"depth": 3}


def test_values_on_a_device_are_handed_over_without_being_read(job, monkeypatch) -> None:
    reads: list[Any] = []
    given: list[Any] = []
    for name in ("item", "cpu", "tolist", "__float__", "__bool__"):
        read = getattr(torch.Tensor, name)

        def counted(self: Any, *args: Any, read: Any = read, **kwargs: Any) -> Any:
            reads.append(1)
            return read(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    monkeypatch.setattr(Journal, "what_fits", lambda _, step, values, *__: given.append(values))
    trainer(max_epochs=2).fit(model(), batches(4), batches(1))
    without = len(reads)
    trainer(PeriFlowCallback(), max_epochs=2).fit(model(), batches(4), batches(1))
    assert len(reads) == 2 * without
    assert {type(value) for values in given for value in values.values()} == {torch.Tensor}


def test_profiler_that_measures_is_left_alone_and_one_that_does_not_is_the_same_to_scripts(
    job, monkeypatch
) -> None:
    simple = lightning.profilers.SimpleProfiler()
    trainer(PeriFlowCallback(), profiler=simple, max_epochs=1).fit(model(), batches(4))
    assert len(simple.recorded_durations["run_training_batch"]) == 4
    started, seen = [], []
    empty = lightning.profilers.PassThroughProfiler
    monkeypatch.setattr(empty, "start", lambda _, action: started.append(action))

    def use(trainer: Any, *args: Any) -> None:
        with trainer.profiler.profile("mine") as name:
            seen.append(name)
        seen.append(trainer.profiler.profile("mine too")(lambda: "called")())

    using = lightning.callbacks.LambdaCallback(on_train_batch_start=use)
    fit = trainer(PeriFlowCallback(), using, max_epochs=1)
    fit.fit(model(), batches(2))
    assert seen == ["mine", "called"] * 2 and "run_training_batch" not in started
    with fit.profiler.profile("after"):
        assert started[-1] == "after"


def test_untested_newer_version_is_told_once_and_works(job, monkeypatch, capfd) -> None:
    monkeypatch.setattr(_lightning_adapter, "NEWEST_TESTED", (1, 0))
    monkeypatch.setattr(_framework, "_told", set())
    for name in ("LoggedValues", "update_count", "collected", "give_up_sigterm"):
        monkeypatch.delattr(_lightning_adapter, name)
    for _ in range(2):
        checkpoint = lightning.callbacks.ModelCheckpoint()
        fit = trainer(checkpoint, PeriFlowCallback(), max_epochs=1, accumulate_grad_batches=2)
        fit.fit(model(), batches(4), batches(1))
    assert capfd.readouterr().err.count("is newer than the last version") == 1
    assert pf.status().step == 4
    assert [step for step, _ in points(job)["loss_step"]] == [1, 2, 3, 4]
    assert [step for step, _, _ in uploads(job)] == [2, 4]


def test_callback_outside_a_job_is_a_local_run(local, tmp_path: Path) -> None:
    pf.init(local_log_name=local.log_name)
    fit = trainer(PeriFlowCallback(), max_epochs=1, default_root_dir=tmp_path)
    fit.fit(model(), batches(2))
    assert points(local)["loss_step"] == [(1, 0.0), (2, -1.0)]
    assert pf.status().mode == "local" and pf.latest_checkpoint() is None
