"""The ranks of a run that nobody submitted: which of them live, have finished or are gone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from periflow_sdk import _control as word
from periflow_sdk.agent.progress import read_progress

_LATECOMER_SECONDS = 10.0
_FIRST_SECONDS = 60.0
Verdict = Literal["running", "finished", "gone"]


@dataclass(frozen=True)
class _Seen:
    pid: int
    process: psutil.Process | None


class LocalRanks:
    """Looks at the words that ranks leave and at their processes.

    Args:
        expected: How many ranks this machine has, as far as their launcher said.
    """

    def __init__(self, run_dir: Path, expected: int) -> None:
        self._run_dir = run_dir
        self._expected = expected
        self._seen: dict[int, _Seen] = {}
        self._began = time.monotonic()
        self._quiet_since: float | None = None

    def poll(self) -> Verdict:
        """``running`` while one lives that has not finished, and while one may still come."""
        progress = read_progress(self._run_dir)
        finished = {rank for rank, words in progress.items() if words.is_done}
        alive = {
            rank for rank, words in progress.items() if self._lives(rank, words.words[word.PID])
        }
        if alive - finished:
            self._quiet_since = None
            return "running"
        now = time.monotonic()
        if not progress:
            return "gone" if now - self._began > _FIRST_SECONDS else "running"
        self._quiet_since = self._quiet_since or now
        if len(progress) < self._expected and now - self._quiet_since < _LATECOMER_SECONDS:
            return "running"
        return "finished" if finished == progress.keys() else "gone"

    def processes(self) -> list[psutil.Process]:
        """The ranks that live, and all they have started."""
        found: dict[int, psutil.Process] = {}
        for seen in self._seen.values():
            try:
                if seen.process is not None and seen.process.is_running():
                    tree = [seen.process, *seen.process.children(recursive=True)]
                    found.update({process.pid: process for process in tree})
            except psutil.Error:
                continue
        found.pop(psutil.Process().pid, None)
        return list(found.values())

    def _lives(self, rank: int, pid: int) -> bool:
        seen = self._seen.get(rank)
        if seen is None or seen.pid != pid:
            seen = self._seen[rank] = _Seen(pid, _process(pid))
        try:
            # is_running() compares start times: another process of this number is not it.
            return (
                seen.process is not None
                and seen.process.is_running()
                and seen.process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except (psutil.Error, ValueError):
        return None
