"""The network and the data, shared by training and evaluation."""

from pathlib import Path

import numpy as np
import torch
from lightning import LightningModule
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset


class AutoEncoder(LightningModule):
    """Learns to draw a digit again from a few numbers.

    Args:
        code_size: How many numbers.
        lr: Adam's learning rate.
    """

    def __init__(self, code_size: int = 16, lr: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, code_size),
        )
        self.decoder = nn.Sequential(
            nn.Linear(code_size, 32 * 7 * 7),
            nn.ReLU(),
            nn.Unflatten(1, (32, 7, 7)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(images))

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        (images,) = batch
        loss = mse_loss(self(images), images)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        (images,) = batch
        self.log("val_loss", mse_loss(self(images), images))

    def on_validation_epoch_end(self) -> None:
        loss = self.trainer.callback_metrics["val_loss"]
        self.print(f"epoch {self.current_epoch}: validation loss {loss:.4f}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def load_mnist(folder: Path) -> tuple[TensorDataset, TensorDataset]:
    """Images [count, 1, 28, 28] from 0 to 1: 9 in 10 to train on, 1 in 10 to validate."""
    table = np.loadtxt(folder / "mnist_5k.csv.gz", delimiter=",", dtype=np.float32)
    images = torch.from_numpy(table[:, :-1]).reshape(-1, 1, 28, 28) / 255
    is_validation = torch.arange(len(images)) % 10 == 9
    return TensorDataset(images[~is_validation]), TensorDataset(images[is_validation])
