"""W&B's own files read back: a LevelDB log of `Record` messages, for which wandb has no reader."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class WandbRun:
    """What one `.wandb` file says of a run. ``rows`` are those of its history, by `_step`."""

    run_id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    exit_code: int | None = None
    is_preempting: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    step_metrics: dict[str, str] = field(default_factory=dict)


def read_run(path: Path) -> WandbRun:
    """Read a `.wandb` file."""
    from wandb.proto import wandb_internal_pb2 as pb

    run = WandbRun()
    for data in _records(path.read_bytes()):
        record = pb.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run_id, run.project = record.run.run_id, record.run.project
            run.name, run.group = record.run.display_name, record.run.run_group
            _update(run.config, record.run.config)
        elif kind == "config":
            _update(run.config, record.config)
        elif kind == "history":
            items = record.history.item
            run.rows.append({_key(item): json.loads(item.value_json) for item in items})
        elif kind == "metric":
            name = record.metric.name or record.metric.glob_name
            run.step_metrics[name] = record.metric.step_metric
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
        elif kind == "preempting":
            run.is_preempting = True
    return run


def _update(config: dict[str, Any], record: Any) -> None:
    config.update({_key(item): json.loads(item.value_json) for item in record.update})


def _key(item: Any) -> str:
    return str(item.key or "/".join(item.nested_key))


def _records(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B"
    at, parts = 7, b""
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if not kind:
            break
        piece = data[at + 7 : at + 7 + length]
        at += 7 + length
        parts = piece if kind in (_FULL, _FIRST) else parts + piece
        if kind in (_FULL, _LAST):
            yield parts
