"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from periflow_sdk import _training, _upload


@pytest.mark.parametrize("module", [_training, _upload], ids=lambda m: m.__name__)
def test_examples_run(module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERIFLOW_HOME", str(tmp_path))
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0 and result.failed == 0
