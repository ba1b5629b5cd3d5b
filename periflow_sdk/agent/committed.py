"""`committed.jsonl` in the node folder: the checkpoints that are in the store."""

from __future__ import annotations

import json
import os
from typing import Any

from periflow_sdk.agent.folder import NodeFolder

_NAME = "committed.jsonl"


def note_committed(folder: NodeFolder, *, id: str | None, step: int, save_type: str) -> None:
    """A checkpoint is in the store; ``id`` is None where this node handed in a part of it."""
    line = json.dumps({"id": id, "step": step, "save_type": save_type}) + "\n"
    descriptor = os.open(folder / _NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def committed_after(folder: NodeFolder, offset: int) -> list[tuple[int, dict[str, Any]]]:
    """What was noted from an offset on, each with the bytes of its line."""
    try:
        with (folder / _NAME).open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return []
    lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    return [(len(line), json.loads(line)) for line in lines]
