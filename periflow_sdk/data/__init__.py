"""Data sets that a script reads, and that a resumed run takes up where it was left."""

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
