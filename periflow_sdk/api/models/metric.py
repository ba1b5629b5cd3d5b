"""Metrics."""

from __future__ import annotations

from typing import Literal

from periflow_sdk.api.models.wire import Wire


class MetricName(Wire):
    name: str
    kind: Literal["number", "text"]
    ranks: list[int]
    count: int
    last_step: int
    last_value: float | str | None


class MetricSeries(Wire):
    """One metric of one rank, newest attempt first where attempts overlap.

    ``rank`` is None for the mean over the ranks at each step.
    ``steps``, ``times`` (unix seconds) and ``values`` have one length. NaN and infinities are the
    strings "NaN", "Infinity" and "-Infinity".
    """

    name: str
    rank: int | None
    steps: list[int]
    times: list[float]
    values: list[float | str]
