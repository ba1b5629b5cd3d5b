"""Data sets that a script reads, and that a resumed run takes up where it was left."""

from typing import TYPE_CHECKING

from periflow_sdk._lazy import lazy

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

# Each process that reads a bucket has a helper that starts from here.
__getattr__ = lazy(
    __name__,
    {
        "DataFile": "source",
        "Dataset": "dataset",
        "ResumableRandomSampler": "sampler",
        "ResumableSequentialSampler": "sampler",
        "Stream": "streaming",
        "stream": "streaming",
    },
)
