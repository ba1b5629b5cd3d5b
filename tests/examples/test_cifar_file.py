"""The files of CIFAR-100 as Python 2 has pickled them."""

from __future__ import annotations

import pickle
import runpy
from pathlib import Path

import pytest
import torch

LOADER = Path(__file__).resolve().parents[2] / "examples/cifar/data.py"


def _text(value: bytes) -> bytes:
    """A string of Python 2."""
    return b"U" + bytes([len(value)]) + value


def _images(pixels: bytes, labels: bytes) -> bytes:
    """A dictionary with an array of one image a row; the labels are small numbers."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _text(b"b") + b"\x87R"
        b"(K\x01K" + bytes([len(labels)]) + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\n" + _text(b"u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + _text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + len(pixels).to_bytes(4, "little") + pixels + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return (
        b"\x80\x02}(" + _text(b"data") + array + _text(b"fine_labels") + numbers
        + _text(b"batch_label") + _text(b"training batch 1 of 1") + b"u."
    )  # fmt: skip


def test_files_of_python_2_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = bytes(range(256)) * 24
    (folder / "train").write_bytes(_images(pixels, bytes([7, 99])))
    (folder / "test").write_bytes(_images(pixels[:3072], bytes([3])))
    names = b"](" + _text(b"apple") + _text(b"bear") + b"e"
    (folder / "meta").write_bytes(b"\x80\x02}" + _text(b"fine_label_names") + names + b"s.")

    train, test, classes = runpy.run_path(str(LOADER))["load_cifar100"](tmp_path)
    images, labels = train.tensors
    assert (tuple(images.shape), labels.tolist(), len(test)) == ((2, 3, 32, 32), [7, 99], 1)
    assert torch.equal(images.flatten(), torch.tensor(list(pixels), dtype=torch.uint8))
    assert classes == ["apple", "bear"]


def test_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(pickle.UnpicklingError, match=r"os\.system has no place"):
        runpy.run_path(str(LOADER))["load_cifar100"](tmp_path)
