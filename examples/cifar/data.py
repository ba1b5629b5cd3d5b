"""The files of CIFAR-100: Python pickles with the pixels as rows of 3,072 bytes."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import TensorDataset

FOLDER = "cifar-100-python"
_PADDING = 4


class Cifar100(NamedTuple):
    """Images as bytes, [count, 3, 32, 32], with their labels."""

    train: TensorDataset
    test: TensorDataset
    classes: list[str]


def load_cifar100(folder: Path) -> Cifar100:
    """Read the three files.

    Args:
        folder: Holds `train`, `test` and `meta`, or the folder `cifar-100-python` with them.
    """
    if (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    classes = _read(folder / "meta")["fine_label_names"]
    return Cifar100(_images(folder / "train"), _images(folder / "test"), classes)


def _images(path: Path) -> TensorDataset:
    table = _read(path)
    pixels = torch.from_numpy(table["data"]).view(-1, 3, 32, 32)
    return TensorDataset(pixels, torch.tensor(table["fine_labels"]))


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        # Python 2 wrote them: its strings, arrays among them, are read as Latin-1.
        table: dict[str, Any] = _ArrayUnpickler(file, encoding="latin1").load()
    return table


class _ArrayUnpickler(pickle.Unpickler):
    """Reads lists, texts and arrays, and runs nothing else: a dataset may be someone else's."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module.endswith("core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of CIFAR-100")


def augmented(images: torch.Tensor, seed: int) -> torch.Tensor:
    """The images, each moved by up to four pixels and half of them mirrored.

    A seed that follows from the step draws the same in a run that is resumed.
    """
    draw = torch.Generator().manual_seed(seed)
    padded = functional.pad(images, [_PADDING] * 4)
    corners = torch.randint(2 * _PADDING + 1, (len(images), 2), generator=draw).tolist()
    moved = torch.stack(
        [image[:, y : y + 32, x : x + 32] for image, (y, x) in zip(padded, corners, strict=True)]
    )
    is_mirrored = torch.rand(len(images), generator=draw) < 0.5
    return torch.where(is_mirrored.view(-1, 1, 1, 1), moved.flip(3), moved)
