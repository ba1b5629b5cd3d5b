"""What `pf` says of the datasets that are kept on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

READ = """
    import periflow_sdk as pf
    data = pf.dataset("kept")
    print((data.path / "a").read_text(), flush=True)
"""


def test_cache_is_listed_and_cleared(settled: Any, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_text("alpha")
    settled.pf("dataset", "upload", "-n", "kept", "-p", f"{tmp_path}/kept/")
    assert settled.json("cache", "list")["datasets"] == []
    # As a person would, in the same shell: with the login of `pf` and its current project.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ)],
        env={**os.environ, **settled.env},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stdout == "alpha\n", done.stderr
    (kept,) = settled.json("cache", "list")["datasets"]
    assert (kept["name"], kept["size"]) == ("pf://kept", 5)
    assert "pf://kept" in settled.pf("cache", "list")
    assert settled.json("cache", "clear")["left"] == 0
    assert settled.json("cache", "list")["datasets"] == []
