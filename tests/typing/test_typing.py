"""What mypy --strict says about scripts that use the SDK."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def mypy(name: str, cache: Path) -> list[tuple[int, str]]:
    """Line and code of each complaint."""
    config = FOLDER / "mypy.ini"
    options = [f"--config-file={config}", f"--cache-dir={cache}", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(FOLDER / name)],
        capture_output=True,
        text=True,
        cwd=cache,
    )
    assert not done.stderr
    complaints = re.findall(r"^.*\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert len(complaints) == done.stdout.count(" error: "), done.stdout
    return [(int(line), code) for line, code in complaints]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_right_script_is_clean(cache: Path) -> None:
    assert mypy("user_script.py", cache) == []


def test_every_mistake_is_found(cache: Path) -> None:
    lines = (FOLDER / "wrong_script.py").read_text().splitlines()
    expected = [
        (number, line.rpartition("# ")[2])
        for number, line in enumerate(lines, 1)
        if line.startswith("pf.")
    ]
    assert mypy("wrong_script.py", cache) == expected
