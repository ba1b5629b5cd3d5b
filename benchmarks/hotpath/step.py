"""The training step that the tools are measured beside."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable


def numpy_step() -> Callable[[], float]:
    """One forward and backward pass of a small network, about 1 ms on one thread."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    import numpy as np  # reads them when it is loaded

    rng = np.random.default_rng(0)
    first, second, batch = (
        rng.normal(size=size).astype(np.float32) for size in ((256, 256), (256, 10), (328, 256))
    )

    def step() -> float:
        hidden = np.tanh(batch @ first)
        out = hidden @ second
        back = (out @ second.T) * (1 - hidden**2)
        first[:] -= np.float32(1e-9) * (batch.T @ back)
        return float((out**2).mean())

    return step


def trimmed(values: list[float]) -> float:
    """The mean without the slowest and fastest tenth."""
    cut = len(values) // 10
    return statistics.fmean(sorted(values)[cut : len(values) - cut])
