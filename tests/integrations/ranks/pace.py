"""What the ranks of all frameworks do alike: each step takes a while, and weights tell its number.

The loss is the weight, and its gradient 1: at a learning rate of 1 the loss of step k is 1 - k.
"""

import os
import time
from pathlib import Path

import torch

import periflow_sdk as pf

STEPS_PER_EPOCH, EPOCHS = 40, 3
TOTAL = STEPS_PER_EPOCH * EPOCHS
torch.set_num_threads(1)


def take_a_while() -> None:
    """Let a step take 50 ms, until the test has seen what it wanted to see."""
    if not Path(os.environ["HURRY"]).exists():
        time.sleep(0.05)


def say(word: str) -> None:
    """Print what this rank does, and at which step."""
    rank = os.environ["RANK"]
    print(f"rank {rank} pid {os.getpid()} {word} at step {pf.current_step()}", flush=True)


class Numbers(torch.utils.data.Dataset):
    """One sample a step and rank; rank 0 has the even ones."""

    def __len__(self) -> int:
        return 2 * STEPS_PER_EPOCH

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(float(index))
