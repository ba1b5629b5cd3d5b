"""Charts of metrics."""

from __future__ import annotations

import re

import pytest

from periflow_cli.plot import draw
from periflow_sdk.api.models import MetricSeries


@pytest.mark.parametrize(("lowest", "is_below"), [(0.0, False), (0.001, False), (-0.5, True)])
def test_axis_goes_below_zero_only_for_negative_values(lowest: float, is_below: bool) -> None:
    values = [2.0, 1.0, lowest]
    series = MetricSeries(name="loss", rank=0, steps=[1, 2, 3], times=[0, 0, 0], values=values)
    text = "\n".join(draw([series], braille=False))
    assert bool(re.search(r"-\d", text)) == is_below
