"""PeriFlowTracker in Accelerate, in this process: one rank of a job."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

import periflow_sdk as pf
from periflow_integrations.accelerate import PeriFlowTracker
from periflow_sdk import _control as word


def begin(**options: Any) -> tuple[Accelerator, Any, Any]:
    trackers = [PeriFlowTracker(total_train_steps=4), PeriFlowTracker()]  # two by mistake
    accelerator = Accelerator(cpu=True, log_with=trackers, **options)
    accelerator.init_trackers("lines", config={"lr": 0.1})
    model = torch.nn.Linear(2, 1)
    return accelerator, *accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))


def learn(accelerator: Accelerator, model: Any, optimizer: Any) -> None:
    with accelerator.accumulate(model):
        loss = model(torch.ones(1, 2)).mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    accelerator.log({"loss": loss.detach()}, step=0)


@pytest.mark.parametrize("counts_itself", [False, True])
def test_tracker_counts_updates_for_a_script_that_does_not(job, counts_itself) -> None:
    accelerator, model, optimizer = begin(gradient_accumulation_steps=2)
    for _ in range(4):
        if counts_itself:
            with pf.train_step():
                for _ in range(2):
                    learn(accelerator, model, optimizer)
        else:
            for _ in range(2):
                learn(accelerator, model, optimizer)
    accelerator.end_training()
    assert [record["s"] for record in job.records(kind="step")] == [1, 2, 3, 4]
    assert {step for step, _ in job.metrics()} >= {1, 2, 3, 4}
    assert job.records(kind="config")[0]["config"] == {"lr": 0.1}
    assert job.word("progress", word.TOTAL) == job.word("progress", word.FINISHED) == 4
    assert job.word("progress", word.STATE) == word.DONE


def test_states_are_uploaded_and_resumed(job) -> None:
    naming = ProjectConfiguration(
        project_dir=str(job.checkpoints), automatic_checkpoint_naming=True, total_limit=1
    )
    accelerator, model, optimizer = begin(project_config=naming)
    for _ in range(2):
        learn(accelerator, model, optimizer)
        accelerator.save_state()
    saved = model.weight.detach().clone()
    accelerator.save_state()  # the same step
    records = job.records(kind="checkpoint")
    assert [record["s"] for record in records] == [1, 2]
    for number, record in enumerate(records):
        names = {file["path"] for file in record["files"]}
        expected = ("model.safetensors", "optimizer.bin", "random_states_0.pkl")
        assert names >= {f"checkpoint_{number}/{name}" for name in expected}
    learn(accelerator, model, optimizer)
    accelerator.load_state(str(job.checkpoints / "checkpoints/checkpoint_2"))
    assert torch.equal(model.weight, saved)
