"""What others use, each in a virtual environment of its own, in one interleaved run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

TOOL = Path(__file__).parent / "tool.py"
OURS = ("empty call", "os.write", "periflow")
PEERS = ("trackio", "wandb", "tensorboard", "swanlab", "aim", "mlflow")
INSTALL_SECONDS = 300.0  # of all peers together
RUN_SECONDS = 120.0
IMPORTS = {
    "empty call": "pass",
    "os.write": "import os",
    "periflow": "import periflow_sdk",
    "tensorboard": "from torch.utils.tensorboard import SummaryWriter",
}
Row = dict[str, float | str]


def compare(cache: Path, folder: Path | None, rounds: int) -> dict[str, Row]:
    """A row for each tool: medians of ``rounds`` turns, and ratios to the limits.

    ``skipped`` in a row says why there are no figures.

    Args:
        cache: Keeps the virtual environments.
        folder: Where runs are written (a disk).
    """
    deadline = time.monotonic() + INSTALL_SECONDS
    rows: dict[str, Row] = {name: {} for name in OURS}
    pythons = dict.fromkeys(OURS, Path(sys.executable))
    for name in PEERS:
        try:
            pythons[name] = _install(name, cache / name, deadline)
            rows[name] = {}
        except (OSError, subprocess.SubprocessError) as error:
            rows[name] = {"skipped": f"it could not be installed ({type(error).__name__})"}
    taken: dict[str, list[Row]] = {name: [] for name in pythons}
    for number in range(rounds):
        for name in list(pythons):
            try:
                taken[name].append(_measure(name, pythons[name], folder, kill=number == 0))
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                rows[name] = {"skipped": f"it did not run ({_last_words(error)})"}
                del pythons[name]
    for name in pythons:
        rows[name] = _medians(taken[name])
    for key, limit in (("median us", "os.write"), ("import ms", "empty call")):
        for row in rows.values():
            if key in row and key in rows[limit]:
                row[f"x {limit}"] = float(row[key]) / float(rows[limit][key])
    return rows


def _install(name: str, place: Path, deadline: float) -> Path:
    """The tool's Python; what its environment lacks, such as torch, comes from ours."""
    python = place / "bin/python"
    if not (place / "installed").exists():
        left = max(1.0, deadline - time.monotonic())
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=left)
        (site,) = place.glob("lib/python*/site-packages")
        (site / "zz-ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        left = max(1.0, deadline - time.monotonic())
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", name]
        subprocess.run(command, check=True, timeout=left, capture_output=True)
        (place / "installed").touch()
    return python


def _measure(name: str, python: Path, folder: Path | None, *, kill: bool) -> Row:
    row: Row = {}
    for what in ("calls", "loop", "kill") if kill else ("calls", "loop"):
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
            if what != "kill":
                row |= json.loads(_run(python, name, what, own).splitlines()[-1])
                continue
            _run(python, name, what, own, check=False)
            kept = json.loads(_run(python, name, "count", own).splitlines()[-1])["kept"]
            if kept is not None:
                row["kept"] = kept
    start = time.perf_counter()
    code = IMPORTS.get(name, f"import {name}")
    subprocess.run([str(python), "-c", code], check=True, capture_output=True, timeout=RUN_SECONDS)
    row["import ms"] = (time.perf_counter() - start) * 1e3
    return row


def _run(python: Path, name: str, what: str, folder: str, *, check: bool = True) -> str:
    done = subprocess.run(
        [str(python), str(TOOL), name, what, folder],
        check=check,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        cwd=folder,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    return done.stdout


def _medians(rows: list[Row]) -> Row:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: statistics.median(float(r[key]) for r in rows if key in r) for key in keys}


def _last_words(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done after {error.timeout:.0f} s"
    words = getattr(error, "stderr", None) or str(error)
    text = words if isinstance(words, str) else words.decode(errors="replace")
    return text.strip().splitlines()[-1][:100] if text.strip() else type(error).__name__
