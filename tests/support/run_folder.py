"""A run in a job and a run outside one, without an agent. Fixtures to import."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from warm_python import warm_python

import periflow_sdk as pf

_NAMES_TORCH = re.compile(r"^\s*(import|from)\b[^;\n]*\btorch\b", re.MULTILINE).search
JOB_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "PROCESSED_ITERS", "CKPT_DIR")


class Run:
    """What a run leaves on the disk, read as the agent or the user would read it.

    ``mode`` is "job" or "local"; ``log_name`` is what to pass to init().
    """

    def __init__(self, mode: str, folder: Path) -> None:
        self.mode = mode
        self.folder = folder
        self.run_dir = folder / "run"
        self.checkpoints = folder / "ckpt"
        self.log_name = folder / "metrics.jsonl"
        self.run_dir.mkdir()
        self.checkpoints.mkdir()

    def variables(self, **more: str) -> dict[str, str]:
        """The environment of a process of this run."""
        base = {k: v for k, v in os.environ.items() if k not in JOB_NAMES}
        base |= {"PERIFLOW_HOME": str(self.folder / "home"), "CKPT_DIR": str(self.checkpoints)}
        if self.mode == "job":
            base |= {"PERIFLOW_ENABLED": "1", "PERIFLOW_RUN_DIR": str(self.run_dir)}
        return base | more

    def segments(self, rank: int = 0) -> list[Path]:
        """The journal's segments, oldest first."""
        return sorted((self.run_dir / f"rank-{rank}").glob("*.jsonl"))

    def records(self, rank: int = 0, kind: str | None = None) -> list[dict[str, Any]]:
        """The records that parse, in order; all of them, or of one kind."""
        found = []
        for segment in self.segments(rank):
            for line in segment.read_bytes().split(b"\n"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return [r for r in found if kind in (None, r["t"])]

    def metrics(self) -> list[tuple[int, dict[str, Any]]]:
        """Each metric() call: its step and its values."""
        if self.mode == "job":
            return [(r["s"], r["m"]) for r in self.records(kind="metric")]
        lines = [json.loads(line) for line in self.log_name.read_text().splitlines()]
        return [
            (line["step"], {k: v for k, v in line.items() if k not in ("step", "time")})
            for line in lines
        ]

    def word(self, name: str, number: int, rank: int = 0) -> int:
        """A word of ``progress`` or ``control``, as another process sees it."""
        data = (self.run_dir / f"rank-{rank}" / name).read_bytes()
        return int(struct.unpack_from("<q", data, 8 * number)[0])

    def tell(self, number: int, value: int) -> None:
        """Write a word of ``control``, as the agent does."""
        with (self.run_dir / "rank-0" / "control").open("r+b") as control:
            control.seek(8 * number)
            control.write(struct.pack("<q", value))

    def script(
        self, code: str, *, check: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a training script as a process of its own."""
        return subprocess.run(
            [warm_python() if _NAMES_TORCH(code) else sys.executable, "-W", "error", "-c", code],
            env=self.variables(**more),
            cwd=self.folder,
            text=True,
            capture_output=True,
            check=check,
            timeout=200,
        )


@pytest.fixture(params=["job", "local"])
def run(request: pytest.FixtureRequest, enter: Callable[[str], Run]) -> Run:
    """A run of either mode; init() is the test's own."""
    return enter(request.param)


@pytest.fixture
def job(enter: Callable[[str], Run]) -> Run:
    """A run in a job."""
    return enter("job")


@pytest.fixture
def local(enter: Callable[[str], Run]) -> Run:
    """A run outside a job."""
    return enter("local")


@pytest.fixture
def enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Run]]:
    """Make this process one of a run of the mode."""

    def make(mode: str) -> Run:
        run = Run(mode, tmp_path)
        for name in set(os.environ) | set(JOB_NAMES):
            if name.startswith("PERIFLOW_") or name in JOB_NAMES:
                monkeypatch.delenv(name, raising=False)
        for name, value in run.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        return run

    yield make
    pf.finish()
