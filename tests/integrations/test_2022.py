"""Scripts as they were written in 2022, with callbacks of their own: they run unchanged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from periflow_sdk import _control as word
from periflow_sdk import periflow as pf

pytestmark = pytest.mark.filterwarnings("ignore")


class StepsOfLightning(Callback):
    """Every batch is a step, as it was done then."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        pf.start_step()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        pf.metric({"iteration": trainer.global_step, "loss": float(outputs["loss"])})
        pf.end_step()


class UploadingTrainer(Trainer):
    def save_checkpoint(
        self, filepath: Any, weights_only: bool = False, storage_options: Any = None
    ) -> None:
        super().save_checkpoint(filepath, weights_only, storage_options)
        pf.upload_checkpoint()


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        return self.layer(batch).pow(2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class StepsOfTrainer(transformers.TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pf.start_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pf.end_step()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        pf.metric({"iteration": state.global_step, **logs})

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pf.upload_checkpoint()


class Classifier(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.layer(x).pow(2).mean()}


def test_lightning_script_with_its_own_callback_and_trainer(job) -> None:
    pf.init(total_train_steps=4)
    saving = ModelCheckpoint(dirpath=job.checkpoints, every_n_train_steps=2, save_top_k=-1)
    trainer = UploadingTrainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[StepsOfLightning(), saving],
    )
    trainer.fit(Line(), torch.utils.data.DataLoader(torch.ones(4, 1)))
    assert job.word("progress", word.FINISHED) == job.word("progress", word.TOTAL) == 4
    assert [(step, values["iteration"]) for step, values in job.metrics()] == [
        (step, step) for step in (1, 2, 3, 4)
    ]
    files = [[f["path"] for f in r["files"]] for r in job.records(kind="checkpoint")]
    assert files == [["epoch=0-step=2.ckpt"], ["epoch=0-step=4.ckpt"]]


def test_trainer_script_that_plans_by_max_steps_which_is_not_set(job) -> None:
    arguments = transformers.TrainingArguments(
        output_dir=str(job.checkpoints),
        use_cpu=True,
        num_train_epochs=1,
        per_device_train_batch_size=1,
        logging_steps=1,
        save_steps=2,
        report_to=[],
        disable_tqdm=True,
    )
    pf.init(total_train_steps=arguments.max_steps)  # -1: not known
    data = [{"x": torch.ones(1)} for _ in range(4)]
    callbacks = [StepsOfTrainer()]
    transformers.Trainer(Classifier(), arguments, train_dataset=data, callbacks=callbacks).train()
    assert job.word("progress", word.FINISHED) == 4 and job.word("progress", word.TOTAL) == 0
    assert {values["iteration"] for _, values in job.metrics()} == {1, 2, 3, 4}
    uploads = job.records(kind="checkpoint")
    assert [record["s"] for record in uploads] == [2, 4]
    assert {file["path"].split("/")[0] for file in uploads[1]["files"]} == {"checkpoint-4"}
