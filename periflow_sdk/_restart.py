"""Where ranks go on: from what was restored, or from what they have left before a restart.

A launcher may start ranks again within an attempt. The first of them then decides, from what the
journals say, which checkpoint on this disk all of them go on from, and notes it for the others:
whoever came a moment later would perhaps find another one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ._console import say
from ._memory_stage import WORKER_LOCK, MemoryStage
from ._past import Part, Process, other_processes
from ._resume import Candidate, FileMark, mark_of, restored_candidate
from .environment import JobEnvironment

_NOTE, _LOCK = "resume.json", "resume.lock"
_WRITTEN_SECONDS = 60.0  # how long a file may take from memory to the disk
_PAUSE_SECONDS = 0.005


class Choice(NamedTuple):
    """What a rank goes on from: a checkpoint, or None for the start; the step that was done there.

    ``made_ns`` is when it was made for ranks that are started again; 0 if this is no restart.
    """

    candidate: Candidate | None
    step: int
    made_ns: int = 0


def resume_point(environment: JobEnvironment) -> Choice:
    """What this process goes on from.

    Of a job with several nodes no node can tell what the others have on their disks: its ranks
    go on from what was restored for the attempt.
    """
    restored = _restored(environment)
    try:
        with _alone(environment.run_dir):
            return _choice(environment, restored)
    except OSError:
        return restored


def _restored(environment: JobEnvironment) -> Choice:
    path, folder = environment.restored_checkpoint, environment.checkpoint_dir
    candidate = None
    if path is not None:
        candidate = restored_candidate(path, folder, environment.run_dir)
    return Choice(candidate, environment.processed_steps)


def _choice(environment: JobEnvironment, restored: Choice) -> Choice:
    note = environment.run_dir / _NOTE
    known = _recall(note) or restored
    others = other_processes(environment.run_dir, known.made_ns)
    if any(process.is_alive and process.rank == environment.rank for process in others):
        return restored  # a process that the rank has started by itself
    ended = [process for process in others if not process.is_alive]
    if not ended:
        return known
    if all(process.has_finished for process in ended):
        return restored  # another script of the same command
    if environment.num_nodes > 1:
        return restored._replace(made_ns=time.time_ns())
    made = decide(ended, known, environment)
    _remember(note, made)
    return made


@dataclass
class _Saved:
    """What was saved of one step, by all ranks."""

    step: int
    parts: list[tuple[Process, Part]] = field(default_factory=list)

    def files(self) -> set[Path]:
        return {part.base / name for _, part in self.parts for name in part.files}

    def is_closed(self, ended: list[Process], world_size: int) -> bool:
        """Whether every rank has given its part, or had gone on without one."""
        if not self.is_written():
            return False
        there = {process.rank for process, _ in self.parts}
        there |= {process.rank for process in ended if process.reached > self.step}
        there |= {process.rank for process in ended if process.has_finished}
        return len(there) >= world_size

    def is_written(self) -> bool:
        """Whether every part that was announced is on the disk."""
        folders = [part.folder for _, part in self.parts]
        return all(
            part.is_written and folders.count(part.folder) >= part.ranks for _, part in self.parts
        )

    def candidate(self) -> Candidate | None:
        """The checkpoint, if its files are on the disk as they were saved."""
        marks: dict[Path, FileMark] = {}
        for _, part in self.parts:
            for name in part.files:
                path = part.base / name
                mark = mark_of(path)
                # Ranks that save the same file each have a mark of their own for it.
                if mark is None or not any(_fits(mark, p, name) for _, p in self.parts):
                    return None
                marks[path] = mark
        if not marks:
            return None
        base = self.parts[0][1].base
        tops = {path.relative_to(base).parts[0] for path in marks}
        return Candidate(base / tops.pop() if len(tops) == 1 else base, None, marks)

    def await_files(self, run_dir: Path) -> None:
        """Wait until the worker has written what is in memory."""
        end = time.monotonic() + _WRITTEN_SECONDS
        for process, part in self.parts:
            stage = MemoryStage(run_dir / f"rank-{process.rank}", run_dir / WORKER_LOCK)
            while part.memory and stage.holds(part.memory) and stage.is_served():
                if time.monotonic() > end:
                    return
                time.sleep(_PAUSE_SECONDS)


def decide(ended: list[Process], known: Choice, environment: JobEnvironment) -> Choice:
    """The newest checkpoint on this disk that is whole, of those that the ended processes left.

    One that a rank had not gone beyond when it ended may lack a part. It is taken if it has every
    file of one that is known to be whole.

    Args:
        ended: The processes since the choice before.
        known: The choice before: what is gone on from if there is nothing newer.
    """
    saved = _by_step(ended)
    closed = [each for each in saved if each.is_closed(ended, environment.world_size)]
    models = [each.files() for each in closed]
    if known.candidate is not None:
        models.append(set(known.candidate.marks))
    for each in saved:
        is_like_one = each.is_written() and any(m and m <= each.files() for m in models)
        if each in closed or is_like_one:
            each.await_files(environment.run_dir)
            if (candidate := each.candidate()) is not None:
                return Choice(candidate, each.step, time.time_ns())
    return _without_a_newer_one(saved, closed, known)._replace(made_ns=time.time_ns())


def _without_a_newer_one(saved: list[_Saved], closed: list[_Saved], known: Choice) -> Choice:
    last = known.candidate
    if last is None and not closed:
        if saved:
            say(f"the checkpoint of step {saved[0].step} may lack a part: training starts without.")
        return known
    if last is not None and all(mark_of(path) == mark for path, mark in last.marks.items()):
        return known
    step = saved[0].step if saved else known.step
    fault = f"what was saved until step {step} has been overwritten or removed since"
    return known._replace(candidate=Candidate(last.path if last else Path(), fault=fault))


def _by_step(ended: list[Process]) -> list[_Saved]:
    """What was saved at each step, the newest first; of each rank by its last process alone."""
    last = {process.rank: process for process in ended}
    found: dict[int, _Saved] = {}
    for process in last.values():
        for part in process.parts.values():
            found.setdefault(part.step, _Saved(part.step)).parts.append((process, part))
    return [found[step] for step in sorted(found, reverse=True)]


def _fits(mark: FileMark, part: Part, name: str) -> bool:
    """Whether a file is what a part has under a name; that of a state in memory had no size yet."""
    wanted = part.files.get(name)
    if wanted is None or mark.mtime_ns != wanted.mtime_ns:
        return False
    return bool(part.memory) or mark.size == wanted.size


@contextlib.contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    fd = os.open(run_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _recall(note: Path) -> Choice | None:
    try:
        document = json.loads(note.read_text())
        step, made_ns, path = document["step"], document["made_ns"], document["path"]
        marks = {Path(file): FileMark(*mark) for file, mark in document["files"].items()}
        candidate = None if path is None else Candidate(Path(path), None, marks, document["fault"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Choice(candidate, int(step), int(made_ns))


def _remember(note: Path, choice: Choice) -> None:
    candidate = choice.candidate
    document = {
        "made_ns": choice.made_ns,
        "step": choice.step,
        "path": str(candidate.path) if candidate else None,
        "fault": candidate.fault if candidate else None,
        "files": {str(path): mark for path, mark in candidate.marks.items()} if candidate else {},
    }
    temporary = note.with_suffix(".tmp")
    temporary.write_text(json.dumps(document))
    temporary.replace(note)
