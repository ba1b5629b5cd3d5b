"""HuggingFace Trainer by DDP, with rotation, and an evaluation at the end of each epoch."""

import os

import torch
import transformers
from pace import EPOCHS, Numbers, say, take_a_while

import periflow_sdk as pf
from periflow_integrations.transformers import PeriFlowCallback


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, sample: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.training:
            take_a_while()
        return {"loss": self.weight.sum(), "logits": sample}


class Data(Numbers):
    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"sample": super().__getitem__(index)}


class Speaker(transformers.TrainerCallback):
    def on_train_begin(self, args, state, control, **kwargs) -> None:
        say("begins")

    def on_train_end(self, args, state, control, **kwargs) -> None:
        say("ends")

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        if control.should_training_stop and not pf.status().is_complete:
            say("validates though it should leave")


def main() -> None:
    arguments = transformers.TrainingArguments(
        output_dir=os.environ["CKPT_DIR"],
        use_cpu=True,
        per_device_train_batch_size=1,
        num_train_epochs=EPOCHS,
        learning_rate=1.0,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(
        Model(),
        arguments,
        train_dataset=Data(),
        eval_dataset=Data(),
        callbacks=[PeriFlowCallback(), Speaker()],
    )
    trainer.train(resume_from_checkpoint=pf.latest_checkpoint())
