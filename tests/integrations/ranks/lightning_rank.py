"""Lightning by DDP, with validation, a least number of epochs and a resumable loader."""

import torch
from lightning import pytorch as pl
from pace import EPOCHS, Numbers, say, take_a_while
from torch.utils.data import DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader

import periflow_sdk as pf
from periflow_integrations.lightning import PeriFlowCallback


class Model(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"lr": 1.0})
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        take_a_while()
        loss = self.weight.sum()
        self.log("loss", loss)
        self.log("sample", batch.sum())
        return loss

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        if self.trainer.should_stop:
            say("validates though it should leave")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def on_train_start(self) -> None:
        say("begins")

    def on_train_end(self) -> None:
        say("ends")


def loader() -> StatefulDataLoader:
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    sampler = DistributedSampler(Numbers(), world, rank, shuffle=False)
    return StatefulDataLoader(Numbers(), batch_size=1, sampler=sampler)


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> StatefulDataLoader:
        return loader()

    def val_dataloader(self) -> StatefulDataLoader:
        return loader()


def main() -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=EPOCHS,
        min_epochs=EPOCHS,
        limit_val_batches=2,
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[PeriFlowCallback()],
    )
    trainer.fit(Model(), Data(), ckpt_path=pf.latest_checkpoint())
