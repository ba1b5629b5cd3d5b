"""What an import may load, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("statement", ["import periflow_sdk", "from periflow_sdk import periflow"])
def test_the_sdk_loads_the_standard_library_only(statement: str) -> None:
    loaded = _modules_after(statement) - _modules_after("pass")
    foreign = loaded - set(sys.stdlib_module_names) - {"periflow_sdk"}
    assert not foreign, f"{statement} loads {sorted(foreign)}"


def test_pf_loads_click_and_nothing_heavier() -> None:
    loaded = _modules_after("import periflow_cli.main")
    assert loaded.isdisjoint({"rich", "httpx", "pydantic", "sqlalchemy", "fastapi", "torch"})


def test_the_worker_of_an_agent_loads_what_talks_to_the_server_with_the_first_checkpoint() -> None:
    loaded = _modules_after("import periflow_sdk.agent.worker")
    assert loaded.isdisjoint({"httpx", "pydantic", "fsspec", "torch", "numpy"})
