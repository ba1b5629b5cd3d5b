"""Data sets as other libraries write them, by these libraries themselves.

    python foreign_shards.py litdata|mds FOLDER

Run as a process of its own: what these libraries import and do not need for writing is stubbed.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_STUBBED = {
    *("boto3", "botocore", "oci", "azure", "google", "paramiko", "huggingface_hub"),
    *("torchvision", "transformers", "brotli", "snappy", "zstd"),
}
ITEMS = 10


class _Stub(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] in _STUBBED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def install_stubs(keep: Sequence[str] = ()) -> None:
    """All of these but those to keep are there in name only, which also saves their imports."""
    _STUBBED.difference_update(keep)
    sys.meta_path.insert(0, _StubFinder())


def mds_sample(number: int) -> dict[str, Any]:
    import numpy as np

    return {
        "id": number,
        "content": bytes([number]) * number * 50,
        "text": "héllo" * number,
        "any": np.arange(number + 1, dtype="int16").reshape(1, -1),
        "typed": np.arange(3, dtype="float32"),
        "fixed": np.full((2, 2), number, "uint8"),
        "score": np.float32(number / 3),
        "label": np.uint8(number),
        "price": str(number),
        "tags": {"x": [number, None]},
    }


MDS_COLUMNS = {
    "id": "int",
    "content": "bytes",
    "text": "str",
    "any": "ndarray",
    "typed": "ndarray:float32",
    "fixed": "ndarray:uint8:2,2",
    "score": "float32",
    "label": "uint8",
    "price": "str",
    "tags": "json",
}


def litdata_sample(number: int) -> dict[str, Any]:
    import numpy as np
    import torch

    return {
        "id": number,
        "content": bytes([number]) * number * 50,
        "text": "héllo" * number,
        "ratio": number / 3,
        "good": number % 2 == 0,
        "flat": np.arange(number + 1, dtype="int32"),
        "array": np.full((2, number + 1), number, "float64"),
        "line": torch.arange(number + 1),
        "tensor": torch.full((2, 3), number, dtype=torch.float16),
        "words": ["a", "ü" * number],
        "numbers": [number, 2],
        "halves": [0.5, float(number)],
        "flags": [True, False],
        "rows": [{"k": "v", "n": number, "f": 1.5, "b": True, "z": None}, {"k": "w"} | _ROW],
        "tree": {"deep": {"mixed": [1, "two", None], "empty": []}},
    }


_ROW = {"n": 2, "f": 2.5, "b": False, "z": None}


def write_mds(folder: Path) -> None:
    from streaming.base.format.mds.writer import MDSWriter

    with MDSWriter(out=str(folder), columns=MDS_COLUMNS, size_limit=2000) as writer:
        for number in range(ITEMS):
            writer.write(mds_sample(number))


def write_litdata(folder: Path) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_size=4)
    for number in range(ITEMS):
        writer.add_item(number, litdata_sample(number))
    writer.done()
    writer.merge()


def main(arguments: Sequence[str]) -> None:
    install_stubs()
    kind, folder = arguments
    {"mds": write_mds, "litdata": write_litdata}[kind](Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
