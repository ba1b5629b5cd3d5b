"""``from periflow_sdk.dataloading.sampler import ResumableRandomSampler``, as in 2022."""

from periflow_sdk.data.sampler import ResumableRandomSampler, ResumableSequentialSampler

__all__ = ["ResumableRandomSampler", "ResumableSequentialSampler"]
