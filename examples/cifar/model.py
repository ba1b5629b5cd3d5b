"""A residual network for images of 3 x 32 x 32 bytes."""

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions and the shortcut around them."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out_channels:
            self.shortcut = nn.Conv2d(channels, out_channels, 1, stride, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(images) + self.shortcut(images))


class ResNet(nn.Sequential):
    """Three stages of residual blocks.

    Args:
        classes: How many there are to tell apart.
        depth: Layers with weights: 8, 14, 20, ... (6 for each block a stage, and 2).
        width: Channels of the first stage; each further one has twice as many.
    """

    def __init__(self, classes: int, depth: int = 8, width: int = 16) -> None:
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"depth must be 8, 14, 20, ..., not {depth}")
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if stage and block == 0 else 1
                layers.append(Block(channels, width * 2**stage, stride))
                channels = width * 2**stage
        super().__init__(
            Normalize(),
            *layers,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, classes),
        )


class Normalize(nn.Module):
    """Bytes as numbers around 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images / 127.5 - 1


@torch.no_grad()
def count_correct(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many of the images are recognised."""
    model.eval()
    correct = (model(images).argmax(dim=1) == labels).sum()
    model.train()
    return correct
