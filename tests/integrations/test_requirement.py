"""A framework that is not installed: each part says what to type."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def test_missing_framework_gives_the_pip_line() -> None:
    code = textwrap.dedent("""
        import importlib, sys
        for name in ("lightning", "pytorch_lightning", "transformers", "accelerate"):
            sys.modules[name] = None
        for part in ("lightning", "transformers", "accelerate"):
            try:
                importlib.import_module(f"periflow_integrations.{part}")
            except Exception as error:
                print(type(error).__name__, error)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all(line.startswith("MissingExtraError") for line in lines)
    assert lines[0].endswith("pip install 'lightning>=2.5'")
    assert lines[1].endswith("pip install 'transformers>=4.57'")
    assert lines[2].endswith("pip install 'accelerate>=1.12'")
