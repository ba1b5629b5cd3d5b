"""Data sets that a script reads, and that a resumed run takes up where it was left."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from periflow_sdk.data.dataset import Dataset
    from periflow_sdk.data.sampler import ResumableRandomSampler, ResumableSequentialSampler
    from periflow_sdk.data.source import DataFile
    from periflow_sdk.data.streaming import Stream, stream

__all__ = [
    "DataFile",
    "Dataset",
    "ResumableRandomSampler",
    "ResumableSequentialSampler",
    "Stream",
    "stream",
]

_HOMES = {
    "DataFile": "source",
    "Dataset": "dataset",
    "ResumableRandomSampler": "sampler",
    "ResumableSequentialSampler": "sampler",
    "Stream": "streaming",
    "stream": "streaming",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported when asked for: each process that reads a bucket has a helper that starts from here.
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
