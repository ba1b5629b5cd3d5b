"""PeriFlowCallback in HuggingFace's Trainer, in this process: one rank of a job, or none."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import periflow_sdk as pf
from periflow_integrations import _run
from periflow_integrations.transformers import PeriFlowCallback
from periflow_sdk import _control as word

pytestmark = pytest.mark.filterwarnings("ignore")
FILES = ["model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt"]
FILES += ["trainer_state.json", "training_args.bin"]


class Model(torch.nn.Module):
    """The loss of step k is 1 - k."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, sample: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.weight.sum(), "logits": sample}


class Numbers(torch.utils.data.Dataset):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"sample": torch.tensor(float(index))}


class Notice(transformers.TrainerCallback):
    """Plays the agent: once a step is done, it settles on the next one for all to save at."""

    def __init__(self, job: Any, step: int) -> None:
        self.job, self.step = job, step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.settle(self.step + 1)

    def settle(self, step: int) -> None:
        self.job.tell(word.EMERGENCY, step)
        self.job.tell(word.COMMITTED, step)


def trainer(folder: Path, *callbacks: Any, samples: int = 6, **options: Any) -> Any:
    arguments = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 1,
        "num_train_epochs": 1,
        "learning_rate": 1.0,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "label_names": ["sample"],
        "report_to": [],
        "disable_tqdm": True,
    }
    return transformers.Trainer(
        Model(),
        transformers.TrainingArguments(**{**arguments, **options}),
        train_dataset=Numbers(samples),
        eval_dataset=Numbers(2),
        callbacks=list(callbacks),
    )


def uploads(job: Any) -> list[tuple[int, str, list[str]]]:
    """The uploaded checkpoints: step, save type, files."""
    records = job.records(kind="checkpoint")
    return [(r["s"], r["save"], [file["path"] for file in r["files"]]) for r in records]


def points(job: Any, name: str) -> list[tuple[int, float]]:
    return [(step, values[name]) for step, values in job.metrics() if name in values]


def inside(folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in FILES]


@pytest.mark.parametrize("folder", ["ckpt", "ckpt/deep/down", "elsewhere"])
def test_one_line_gives_total_steps_logs_and_checkpoints(job, tmp_path, folder) -> None:
    run = trainer(
        tmp_path / folder,
        *(PeriFlowCallback(), PeriFlowCallback()),
        num_train_epochs=2,
        gradient_accumulation_steps=2,
        samples=5,
        save_strategy="epoch",
        save_total_limit=1,
        eval_strategy="epoch",
    )
    run.train()
    assert job.word("progress", word.TOTAL) == job.word("progress", word.FINISHED) == 6
    assert [record["s"] for record in job.records(kind="step")] == [1, 2, 3, 4, 5, 6]
    assert points(job, "loss") == [(k, 1.0 - k) for k in range(1, 7)]
    assert [step for step, _ in points(job, "eval_loss")] == [3, 6]
    assert job.records(kind="config")[0]["config"]["learning_rate"] == 1.0
    # Rotation has deleted the first of them long ago; what was staged stays.
    assert uploads(job) == [
        (3, "NORMAL", inside("checkpoint-3")),
        (6, "NORMAL", inside("checkpoint-6")),
    ]
    for record in job.records(kind="checkpoint"):
        staged = job.checkpoints / record["staged"]
        assert all((staged / file["path"]).stat().st_size for file in record["files"])
    assert pf.latest_checkpoint().name == "checkpoint-6"


def test_step_that_is_saved_twice_is_one_checkpoint(job) -> None:
    class Again(transformers.TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_save = True

    run = trainer(job.checkpoints, Again(), PeriFlowCallback(), save_strategy="steps", save_steps=3)
    run.train()
    assert [step for step, _, _ in uploads(job)] == [3, 6]


def test_emergency_save_comes_before_everything_else_and_is_resumed(job) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 3}
    notice = Notice(job, 2)
    run = trainer(job.checkpoints, notice, PeriFlowCallback(), **options)
    run.train()
    assert run.state.global_step == 3 and points(job, "eval_loss") == []
    assert job.word("progress", word.STOP_SEEN) == 1
    assert uploads(job) == [(3, "EMERGENCY", inside("checkpoint-3"))]
    path = pf.latest_checkpoint()
    assert path == job.checkpoints / "checkpoint-3"
    notice.settle(0)
    again = trainer(job.checkpoints, PeriFlowCallback(), **options)
    again.train(resume_from_checkpoint=path)
    assert again.state.global_step == pf.current_step() == 6
    assert points(job, "loss") == [(k, 1.0 - k) for k in range(1, 7)]


def test_early_stopping_ends_the_run_early(job) -> None:
    stopping = transformers.EarlyStoppingCallback(early_stopping_patience=1)
    run = trainer(
        job.checkpoints,
        *(PeriFlowCallback(), stopping),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,
    )
    run.train()
    assert pf.status().step < pf.status().total_steps == 6
    _run._at_exit()
    assert job.word("progress", word.EARLY) == 1
    assert job.word("progress", word.STATE) == word.DONE


# Versions before 5 have no such thing to refuse.
if "enable_jit_checkpoint" in transformers.TrainingArguments.__dataclass_fields__:

    def test_jit_checkpoints_are_refused_and_leave_no_handler_behind(job) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(pf.PeriFlowError, match="remove enable_jit_checkpoint=True"):
            trainer(job.checkpoints, PeriFlowCallback(), enable_jit_checkpoint=True)
        assert signal.getsignal(signal.SIGTERM) == before


def test_log_that_is_no_number_is_left_out_and_told_once(job, capfd) -> None:
    run = trainer(job.checkpoints, PeriFlowCallback())
    run.train()
    for _ in range(2):
        run.log({"matrix": [[1, 2], [3, 4]], "accuracy": 0.5})
    assert points(job, "accuracy") == [(6, 0.5)] * 2
    assert capfd.readouterr().err.count("'matrix' is not recorded") == 1


def test_steps_count_whatever_becomes_of_their_logs(job, monkeypatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("as it happens")

    fit = trainer(job.checkpoints, PeriFlowCallback(), samples=3)
    monkeypatch.setattr(fit, "log", fail)
    with pytest.raises(RuntimeError, match="as it happens"):
        fit.train()
    monkeypatch.setattr(fit, "log", lambda *args: None)
    fit.train()
    assert [record["s"] for record in job.records(kind="step")] == [1, 2, 3]
    assert job.word("progress", word.FINISHED) == 3


def test_callback_outside_a_job_is_a_local_run(local, tmp_path) -> None:
    pf.init(local_log_name=local.log_name)
    trainer(tmp_path / "out", PeriFlowCallback(), save_strategy="epoch").train()
    assert points(local, "loss") == [(k, 1.0 - k) for k in range(1, 7)]
    assert pf.status().mode == "local"


class Updates(transformers.TrainerCallback):
    """Counts the updates of the weights."""

    count = 0

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.count += 1


def test_hook_of_every_step_is_called_for_whoever_has_it(job) -> None:
    class Adds(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                run.add_callback(late)

    early, late = Updates(), Updates()
    trainer(job.checkpoints, PeriFlowCallback(), early).train()
    run = trainer(job.checkpoints, PeriFlowCallback(), Adds())
    run.train()
    assert (early.count, late.count) == (6, 4)


def test_hook_of_every_step_that_nobody_has_is_not_called(job, monkeypatch) -> None:
    called = []
    empty = transformers.TrainerCallback
    for name in ("on_pre_optimizer_step", "on_optimizer_step", "on_substep_end"):
        monkeypatch.setattr(empty, name, lambda *_, name=name, **__: called.append(name))
    run = trainer(job.checkpoints, PeriFlowCallback(), gradient_accumulation_steps=2)
    run.train()
    assert called == [], "another version of Trainer calls its hooks in another way"
    run.remove_callback(PeriFlowCallback)
    run.train()
    assert len(set(called)) == 3
