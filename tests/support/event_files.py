"""TensorBoard's files read back by TensorBoard itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_events(folder: Path) -> Any:
    """What TensorBoard shows of a run's folder, all of its points."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def texts(events: Any, name: str) -> list[tuple[int, str]]:
    """The steps and values of a text."""
    found = events.Tensors(name)
    return [(each.step, each.tensor_proto.string_val[0].decode()) for each in found]
