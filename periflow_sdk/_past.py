"""What processes of this attempt's ranks have left on this node, read from their journals."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _control as word
from ._resume import FileMark

_RANK = re.compile(r"rank-(0|[1-9][0-9]{0,8})")
_SEGMENT = re.compile(r"([0-9]{20})-([0-9]{1,10})\.jsonl")
_CHECKPOINT = b'{"t":"checkpoint"'


@dataclass
class Part:
    """What a process saved of the checkpoint of a step.

    ``files`` are where they belong in the checkpoint folder; one that is written from memory has
    the size -1. A part of a sharded checkpoint has ``ranks`` others, below ``folder``.
    """

    step: int
    base: Path
    files: dict[str, FileMark]
    memory: int = 0
    ranks: int = 1
    folder: str = ""
    is_written: bool = True


@dataclass
class Process:
    """One process of a rank.

    Attributes:
        is_alive: It is there; what it has done is not read.
        reached: The last step that it is known to have begun, or recorded something of.
        has_finished: It ended its run, by finish() or by a normal exit.
        parts: What it saved, by upload id, oldest first.
    """

    rank: int
    pid: int
    is_alive: bool = False
    reached: int = 0
    has_finished: bool = False
    parts: dict[str, Part] = field(default_factory=dict)


def other_processes(run_dir: Path, since_ns: int) -> list[Process]:
    """The processes but this one that began at or after a time, those of a rank in their order.

    Raises:
        OSError: The run directory cannot be read.
    """
    found: list[Process] = []
    for folder in sorted(run_dir.iterdir()):
        if (match := _RANK.fullmatch(folder.name)) and folder.is_dir():
            found += _of_rank(int(match[1]), folder, since_ns)
    return found


def _of_rank(rank: int, folder: Path, since_ns: int) -> list[Process]:
    processes: dict[int, Process] = {}
    for path in sorted(folder.iterdir()):
        match = _SEGMENT.fullmatch(path.name)
        if match and int(match[1]) >= since_ns and int(match[2]) != os.getpid():
            pid = int(match[2])
            process = processes.setdefault(pid, Process(rank, pid, _is_alive(pid)))
            if not process.is_alive:
                _read(path, process)
    words = _progress(folder)
    last = processes.get(words[word.PID]) if words else None
    if words and last:
        last.reached = max(last.reached, words[word.STARTED])
        last.has_finished |= words[word.STATE] == word.DONE
    return list(processes.values())


def _is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        return False
    return status.split()[0] not in ("Z", "X")


def _read(path: Path, process: Process) -> None:
    data = path.read_bytes().partition(b"\0")[0]  # what comes then was reserved, and not written
    data = data[: data.rfind(b"\n") + 1]
    for line in _checkpoint_lines(data):
        record = _record(line)
        try:
            process.parts |= {record["id"]: _part(record, process.parts.get(record["id"]))}
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    last = _record(data[data.rfind(b"\n", 0, -1) + 1 :])
    if type(last.get("s")) is int:
        process.reached = max(process.reached, last["s"])
    process.has_finished = last.get("t") == "finish"


def _checkpoint_lines(data: bytes) -> Iterator[bytes]:
    start = data.find(b"\n" + _CHECKPOINT)
    while start >= 0:
        end = data.index(b"\n", start + 1)
        yield data[start + 1 : end]
        start = data.find(b"\n" + _CHECKPOINT, end)


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _part(record: dict[str, Any], announced: Part | None) -> Part:
    memory = int(record.get("memory", 0))
    marks = {
        str(file["path"]): FileMark(-1 if memory else int(file["size"]), int(file["mtime_ns"]))
        for file in record["files"]
    }
    has_failed = bool(record.get("failure"))
    return Part(
        step=int(record["s"]),
        base=Path(record["base"]),
        files=marks,
        memory=memory,
        ranks=int(record.get("ranks", 1)),
        folder=str(record.get("folder", "")),
        is_written=not has_failed and (bool(marks) or announced is not None),
    )


def _progress(folder: Path) -> tuple[int, ...] | None:
    try:
        data = (folder / "progress").read_bytes()
    except OSError:
        return None
    words = struct.unpack_from("<16q", data) if len(data) >= 16 * 8 else (0,)
    return words if words[0] == word.MAGIC else None
