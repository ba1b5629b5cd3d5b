"""A loop of its own with Accelerate: it saves when it is told to, and leaves."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from pace import TOTAL, say, take_a_while

import periflow_sdk as pf
from periflow_integrations.accelerate import PeriFlowTracker


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self) -> torch.Tensor:
        return self.weight.sum()


def main() -> None:
    accelerator = Accelerator(cpu=True, log_with=PeriFlowTracker(total_train_steps=TOTAL))
    accelerator.init_trackers("weights", config={"lr": 1.0})
    model = Model()
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
    if path := pf.latest_checkpoint():
        accelerator.load_state(path)
    say("begins")
    for step in range(pf.current_step() + 1, TOTAL + 1):
        take_a_while()
        loss = model()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.log({"loss": loss.item()}, step=step)
        if pf.is_emergency_save():
            accelerator.save_state(Path(os.environ["CKPT_DIR"], f"state-{step}"))
        if pf.should_stop():
            break
    say("ends")
    accelerator.end_training()
