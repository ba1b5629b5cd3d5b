"""The CIFAR-100 example: the files as Python 2 has pickled them, and how its ranks end."""

from __future__ import annotations

import os
import pickle
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/cifar"
LOADER = EXAMPLE / "data.py"


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


def _write_files(folder: Path, pixels: bytes, labels: bytes) -> None:
    """Training images, the first of them for the test too, and two names of classes."""
    folder.mkdir()
    (folder / "train").write_bytes(_images(pixels, labels))
    (folder / "test").write_bytes(_images(pixels[:3072], bytes([3])))
    names = b"](" + _text(b"apple") + _text(b"bear") + b"e"
    (folder / "meta").write_bytes(b"\x80\x02}" + _text(b"fine_label_names") + names + b"s.")


def test_files_of_python_2_are_read(tmp_path: Path) -> None:
    pixels = bytes(range(256)) * 24
    _write_files(tmp_path / "cifar-100-python", pixels, bytes([7, 99]))

    train, test, classes = runpy.run_path(str(LOADER))["load_cifar100"](tmp_path)
    images, labels = train.tensors
    assert (tuple(images.shape), labels.tolist(), len(test)) == ((2, 3, 32, 32), [7, 99], 1)
    assert torch.equal(images.flatten(), torch.tensor(list(pixels), dtype=torch.uint8))
    assert classes == ["apple", "bear"]


def test_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(pickle.UnpicklingError, match=r"os\.system has no place"):
        runpy.run_path(str(LOADER))["load_cifar100"](tmp_path)


THREADS = """
import sys
from pathlib import Path
import main
main.main()
threads = {each.joinpath("comm").read_text().strip() for each in Path("/proc/self/task").iterdir()}
print("left:", [name for name in threads if "gloo" in name])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are looked up in /proc")
def test_rank_ends_with_no_thread_that_could_abort_it(tmp_path: Path) -> None:
    _write_files(tmp_path / "cifar-100-python", bytes(range(256)) * 12 * 16, bytes([0, 1] * 8))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(EXAMPLE)}
    words = ("--batch-size", "2", "--total-epochs", "2", "--save", tmp_path / "ckpt")
    done = subprocess.run(
        [sys.executable, "-c", THREADS, "--data-path", tmp_path, *words],
        cwd=tmp_path,
        env={**os.environ, **variables, **place},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "left: []"
