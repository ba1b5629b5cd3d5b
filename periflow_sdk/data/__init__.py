"""Data that a resumed run takes up where it was left."""

from periflow_sdk.data.sampler import ResumableRandomSampler, ResumableSequentialSampler

__all__ = ["ResumableRandomSampler", "ResumableSequentialSampler"]
