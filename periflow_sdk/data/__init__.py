"""Data that a resumed run takes up where it was left."""

from periflow_sdk.data.sampler import ResumableRandomSampler, ResumableSequentialSampler
from periflow_sdk.data.streaming import Stream, stream

__all__ = ["ResumableRandomSampler", "ResumableSequentialSampler", "Stream", "stream"]
