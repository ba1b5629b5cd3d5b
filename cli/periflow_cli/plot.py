"""Metrics as a chart of characters."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from periflow_sdk.errors import NotFoundError

if TYPE_CHECKING:
    from periflow_sdk.api.models import MetricSeries

# What stands left of the drawing, and right of it: the arrow and "(step)".
_LABELS_WIDTH = 24
_MARKERS = "*o+x#@"
_BLANK_BRAILLE = "⠀"


def width() -> int:
    """Columns of the drawing itself in this terminal."""
    return max(20, min(shutil.get_terminal_size().columns - _LABELS_WIDTH, 160))


def draw(series: Sequence[MetricSeries], *, braille: bool) -> list[str]:
    """The chart as lines.

    Args:
        braille: Draw lines in fine dots and colours; else plain ASCII characters.

    Raises:
        NotFoundError: nothing in the series can be drawn.
    """
    points = [_finite(each) for each in series]
    if not any(points):
        names = ", ".join(each.name for each in series)
        raise NotFoundError(f"{names} has no finite numbers to draw.", code="metric_not_found")
    figure = _figure(points, names=[each.name for each in series], braille=braille)
    for index, (each, drawn) in enumerate(zip(series, points, strict=True)):
        marker = None if braille else _MARKERS[index % len(_MARKERS)]
        xs, ys = [x for x, _ in drawn], [y for _, y in drawn]
        if drawn:
            figure.plot(
                xs, ys, label=each.name, interp="linear" if braille else None, marker=marker
            )
    text = figure.show(legend=len(series) > 1)
    if not braille:
        text = text.replace(_BLANK_BRAILLE, " ").replace("⠤", "")
    return [line.rstrip(f" {_BLANK_BRAILLE}") for line in text.splitlines()]


def _figure(
    points: Sequence[Sequence[tuple[int, float]]], *, names: list[str], braille: bool
) -> Any:
    import plotille

    figure = plotille.Figure()
    figure.width = width()
    figure.height = max(10, min(shutil.get_terminal_size().lines - 8, 30))
    figure.origin = False
    figure.with_colors = braille and len(names) > 1
    figure.x_label = "step"
    figure.y_label = names[0][:8] if len(names) == 1 else "value"
    figure.x_ticks_fkt = lambda step, _next: round(step)
    figure.register_label_formatter(float, _label)
    figure.register_label_formatter(int, _label)
    steps = [step for each in points for step, _ in each]
    values = [value for each in points for _, value in each]
    figure.set_x_limits(min_=min(steps), max_=max(max(steps), min(steps) + 1))
    low, high = min(values), max(values)
    margin = (high - low) * 0.02 or abs(high) * 0.1 or 1.0
    # Below a loss or a rate, which is never negative, there is nothing.
    bottom = max(low - margin, 0.0) if low >= 0 else low - margin
    figure.set_y_limits(min_=bottom, max_=high + margin)
    return figure


def _finite(series: MetricSeries) -> list[tuple[int, float]]:
    return [
        (step, float(value))
        for step, value in zip(series.steps, series.values, strict=True)
        if isinstance(value, (int, float)) and math.isfinite(value)
    ]


def _label(value: float, chars: int, delta: float, left: bool = False) -> str:
    text = str(value) if isinstance(value, int) else f"{value:.3g}"
    return text.ljust(chars) if left else text.rjust(chars)
