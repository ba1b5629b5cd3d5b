"""What a checkpoint of torch.distributed.checkpoint says of its own files, read without torch."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

METADATA = ".metadata"
_SUFFIX = ".distcp"


class _Anything(dict[Any, Any]):
    """Stands for an object of any class: nothing of the file's choice is imported or called."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __new__(cls, *arguments: object, **named: object) -> _Anything:
        return super().__new__(cls)

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update(part)

    def append(self, value: object) -> None:
        """As a list has it."""

    def extend(self, values: object) -> None:
        """As a list has it."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _Anything


def fault_of(files: Iterable[Path]) -> str | None:
    """What is missing of the sharded checkpoints among these files; None if nothing is.

    Args:
        files: Every file of a folder, subfolders included.

    Raises:
        OSError: A file cannot be read.
    """
    known = list(files)
    indexes = [file for file in known if file.name == METADATA]
    indexed = {index.parent for index in indexes}
    for file in known:
        if file.suffix == _SUFFIX and file.parent not in indexed:
            return f"{file.parent.name} lacks {METADATA}"
    for index in indexes:
        for name, size in _named(index):
            file = index.parent / name
            if not file.is_file():
                return f"{index.parent.name} lacks {name}"
            if file.stat().st_size < size:
                return f"{name} is cut off"
    return None


def _named(index: Path) -> Iterator[tuple[str, int]]:
    """Each file that the index names, with the bytes it has at least."""
    data = index.read_bytes()
    if not data.endswith(pickle.STOP):
        yield index.name, len(data) + 1
        return
    try:
        stored = _Reader(io.BytesIO(data)).load().storage_data
        ends: dict[str, int] = {}
        for entry in stored.values():
            end = int(entry.offset) + int(entry.length)
            ends[entry.relative_path] = max(end, ends.get(entry.relative_path, 0))
    except Exception:  # another writer's file of this name: it is for the reader to judge
        return
    yield from ends.items()
