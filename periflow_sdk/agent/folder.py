"""The node folder: what lies where, and whole files only."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NodeFolder:
    """The folder of one node of one attempt (mode 0700), by its real path."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> NodeFolder:
        """The folder at ``path``, made if it is missing."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path.resolve())

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def output(self) -> Path:
        """stdout and stderr of the command."""
        return self.path / "output.log"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint folder, by the path it has on the host."""
        about = self.attached
        return Path(about["checkpoint_dir"]) if about else self.path / "ckpt"

    @property
    def attached(self) -> dict[str, Any] | None:
        """What a run that was attached said of itself; None for the node of a job."""
        return read_json(self.path / "attached.json")

    def memory(self, run_dir: Path) -> Path:
        """Where ranks leave states in memory: the run directory, but for an attached run."""
        return Path((self.attached or {}).get("memory_dir") or run_dir)

    @property
    def restored(self) -> Path:
        """The restored checkpoint as it came, for an input mount of its own."""
        return self.path / "input"

    def upper(self, name: str) -> Path:
        """Where an overlay keeps what is written."""
        folder = self.path / "overlay" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no such file, or nothing whole in it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def write_json(path: Path, document: Any) -> None:
    """Replace a file of ours (0600) at once: readers see the old document or the new one."""
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file)
    temporary.replace(path)


def try_lock(path: Path) -> int | None:
    """Hold an flock on a file; the descriptor that holds it, or None when another one does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
