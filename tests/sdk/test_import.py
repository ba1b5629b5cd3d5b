"""What an import of the SDK costs and shows."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import periflow_sdk
import periflow_sdk as pf

if TYPE_CHECKING:
    from conftest import Run


HEAVY = ("torch", "numpy", "httpx", "pydantic", "fsspec", "json", "re", "typing", "dataclasses")


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after this code."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_import_loads_the_standard_library_only_and_little_of_it() -> None:
    added = modules_after("import periflow_sdk") - modules_after("")
    assert added.isdisjoint(HEAVY)
    ours = {name for name in added if name.startswith("periflow_sdk")}
    assert {name.partition(".")[0] for name in added - ours} <= sys.stdlib_module_names
    assert len(added) <= 8


def test_a_whole_local_run_loads_no_third_party_library(local: Run) -> None:
    code = (
        "import periflow_sdk as pf; pf.init(local_log_name='x.jsonl')\n"
        "with pf.train_step(): pf.metric({'a': 1})\n"
        "pf.upload_checkpoint(); pf.finish()\n"
        "import sys; print(*{m.partition('.')[0] for m in sys.modules})"
    )
    loaded = set(local.script(code).stdout.split()) - modules_after("") - {"periflow_sdk"}
    assert loaded <= sys.stdlib_module_names


def test_a_run_uses_no_network_and_starts_no_thread(run: Run) -> None:
    code = (
        "import sys, threading\n"
        "sys.addaudithook(lambda event, _: event.startswith('socket.') and sys.exit(event))\n"
        "import periflow_sdk as pf\n"
        "pf.init(total_train_steps=1, local_log_name='x.jsonl')\n"
        "with pf.train_step(): pf.metric({'a': 1})\n"
        "open('ckpt/a.txt', 'w').close()\n"
        "pf.upload_checkpoint(); pf.latest_checkpoint(); pf.is_emergency_save()\n"
        "assert not pf.should_stop() and threading.active_count() == 1\n"
        "pf.finish()\n"
    )
    assert run.script(code).stderr == ""


def test_import_opens_no_file_and_starts_no_thread() -> None:
    code = (
        "import os, threading\n"
        "before = os.listdir('/proc/self/fd')\n"
        "import periflow_sdk\n"
        "assert os.listdir('/proc/self/fd') == before and threading.active_count() == 1"
    )
    modules_after(code)


def test_all_names_the_public_face() -> None:
    public = {
        name
        for name, value in vars(periflow_sdk).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(periflow_sdk.__all__) == public | {"__version__"}
    for name in sorted(public):
        document = getattr(periflow_sdk, name).__doc__ or ""
        assert document.strip(), f"{name} has no docstring"


def test_init_file_is_short() -> None:
    assert len(Path(periflow_sdk.__file__).read_text().splitlines()) < 50


def test_name_of_2022_is_the_same_thing() -> None:
    from periflow_sdk import periflow

    for name in pf.__all__:
        if not name.startswith("__"):
            assert getattr(periflow, name) is getattr(pf, name)


def test_logged_in_user_is_told_how_to_run_a_job(local: Run) -> None:
    code = "import periflow_sdk as pf; pf.init()"
    assert local.script(code).stderr == ""
    home = local.folder / "home"
    home.mkdir()
    (home / "session.json").write_text('{"local": {"access_token": "pf_at_secret"}}')
    said = local.script(code).stderr
    assert said.count("\n") == 1 and "pf job run" in said and "secret" not in said
    assert local.script(code, RANK="1").stderr == ""
