"""The network and the data, shared by training and evaluation."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset


class DigitsNet(nn.Sequential):
    """A small CNN for images of 1 x 8 x 8 pixels in 10 classes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )


def load_digits(folder: Path) -> tuple[TensorDataset, TensorDataset]:
    """The training set (4 in 5) and the test set (1 in 5); the split never changes."""
    table = torch.from_numpy(np.loadtxt(folder / "digits.csv.gz", delimiter=",", dtype=np.float32))
    images = table[:, :-1].reshape(-1, 1, 8, 8) / 16
    labels = table[:, -1].long()
    is_test = torch.arange(len(table)) % 5 == 4
    return (
        TensorDataset(images[~is_test], labels[~is_test]),
        TensorDataset(images[is_test], labels[is_test]),
    )


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """The share of images whose digit is recognised, from 0 to 1."""
    model.eval()
    images, labels = data.tensors
    correct = (model(images).argmax(dim=1) == labels).float().mean()
    model.train()
    return float(correct)
