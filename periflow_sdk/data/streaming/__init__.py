"""Training from a data set where it lies: exact order, exact resume, files fetched ahead."""

from periflow_sdk.data.streaming.batch import Batches
from periflow_sdk.data.streaming.stream import Stream, stream

__all__ = ["Batches", "Stream", "stream"]
