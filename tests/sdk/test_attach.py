"""Attached runs as the training process sees them: a folder, an agent beside it, no network."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import periflow_sdk as pf
from periflow_sdk.agent.pruning import prune_runs
from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from conftest import Run

AWAY = "http://127.0.0.1:9"
SCRIPT = """
import periflow_sdk as pf
pf.init(total_train_steps=3, attach={attach})
for _ in range(3):
    with pf.train_step(): pf.metric({{"loss": 0.5}})
print(pf.status().mode)
"""


def log_in(run: Run, url: str = AWAY, **config: Any) -> None:
    """A home as `pf login` and `pf project switch` leave it."""
    home = run.folder / "home"
    home.mkdir(exist_ok=True)
    tokens = {"access_token": "pf_at_x", "refresh_token": "pf_rt_x", "username": "ada"}
    (home / "session.json").write_text(json.dumps({url: tokens}))
    places = {"organization": {"id": "o", "name": "org"}, "project": {"id": "p", "name": "project"}}
    (home / "config.json").write_text(json.dumps({"url": url, "server": url, **places, **config}))


def attached_folders(run: Run) -> list[Path]:
    return sorted((run.folder / "home" / "attached").glob("*"))


@pytest.fixture
def end_agents(local: Run) -> Any:
    """Ends the agents that a test has started, by the pids they left."""
    yield
    for folder in attached_folders(local):
        deadline = time.monotonic() + 90
        while not (folder / "agent.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        pid = json.loads((folder / "agent.json").read_text())["pid"]
        try:
            process = psutil.Process(pid)
            process.terminate()
            process.wait(90)
        except psutil.NoSuchProcess:
            pass


def test_without_a_login_attach_is_refused_with_the_command(local: Run) -> None:
    with pytest.raises(UsageError, match="login") as refused:
        pf.init(attach=True)
    assert refused.value.hint == "pf login"
    assert not attached_folders(local)


def test_without_a_project_attach_is_refused_with_the_command(local: Run) -> None:
    log_in(local, project=None)
    with pytest.raises(UsageError, match="project") as refused:
        pf.init(attach=True)
    assert refused.value.hint == "pf project switch NAME"


def test_a_project_chosen_at_another_server_does_not_count(local: Run) -> None:
    log_in(local, server="http://elsewhere")
    with pytest.raises(UsageError, match="organization"):
        pf.init(attach=True)


def test_the_variable_without_a_login_says_so_in_one_line_and_stays_local(local: Run) -> None:
    done = local.script(SCRIPT.format(attach=None), PERIFLOW_ATTACH="1")
    assert done.stdout == "local\n"
    assert done.stderr.count("\n") == 1 and "pf login" in done.stderr


def test_attach_false_stays_local_whatever_the_variable_says(local: Run) -> None:
    log_in(local)
    assert local.script(SCRIPT.format(attach=False), PERIFLOW_ATTACH="1").stdout == "local\n"
    assert not attached_folders(local)


def test_in_a_job_attach_changes_nothing(job: Run) -> None:
    pf.init(attach=True)
    assert pf.status().mode == "job"


@pytest.mark.usefixtures("end_agents")
def test_a_run_with_its_server_away_is_kept_whole_and_waits_for_nobody(local: Run) -> None:
    log_in(local)
    code = (
        "import time; began = time.monotonic(); import periflow_sdk as pf\n"
        "pf.init(attach=True, local_log_name='log.jsonl'); print(time.monotonic() - began < 30)\n"
        "for _ in range(3):\n"
        "    with pf.train_step(): pf.metric({'loss': 0.5})\n"
        "pf.finish()\n"
        "import sys; print(*{m.partition('.')[0] for m in sys.modules})"
    )
    done = local.script(code)
    waited, modules = done.stdout.splitlines()
    assert waited == "True"
    assert not {"httpx", "pydantic", "psutil"} & set(modules.split())
    (folder,) = attached_folders(local)
    lines = b"".join(path.read_bytes() for path in (folder / "run" / "rank-0").glob("*.jsonl"))
    kinds = [json.loads(line)["t"] for line in lines.splitlines()]
    assert kinds == ["header", "init", *["metric", "step"] * 3, "finish"]
    unwritten, named = done.stderr.splitlines()
    assert "log.jsonl is not written" in unwritten and not list(local.folder.rglob("log.jsonl"))
    assert f"pf job sync {folder}" in named


@pytest.mark.usefixtures("end_agents")
def test_ranks_of_one_launcher_share_a_folder_and_an_agent(local: Run) -> None:
    log_in(local)
    code = (
        "import os, subprocess, sys\n"
        "ranks = [subprocess.Popen([sys.executable, '-c', "
        "'import periflow_sdk as pf; pf.init(attach=True); pf.finish()'], "
        "env={**os.environ, 'RANK': str(r), 'LOCAL_RANK': str(r), 'WORLD_SIZE': '3', "
        "'LOCAL_WORLD_SIZE': '3'}) for r in range(3)]\n"
        "assert [r.wait() for r in ranks] == [0, 0, 0]"
    )
    local.script(code)
    (folder,) = attached_folders(local)
    assert sorted(path.name for path in (folder / "run").glob("rank-*")) == [
        "rank-0",
        "rank-1",
        "rank-2",
    ]
    assert json.loads((folder / "attached.json").read_text())["num_ranks"] == 3


@pytest.mark.usefixtures("end_agents")
def test_a_second_init_is_a_second_run(local: Run) -> None:
    log_in(local)
    local.script("import periflow_sdk as pf\npf.init(attach=True); pf.init(attach=True)")
    assert len(attached_folders(local)) == 2


@pytest.mark.usefixtures("end_agents")
def test_secrets_of_the_environment_and_arguments_are_not_written_down(local: Run) -> None:
    log_in(local)
    (local.folder / "train.py").write_text(
        "import os, subprocess, sys\nimport periflow_sdk as pf\npf.init(attach=True)\n"
    )
    code = (
        "import runpy, sys; sys.argv = ['train.py', '--key', 'hunter2']; runpy.run_path('train.py')"
    )
    local.script(code, MY_SECRET="hunter2")
    (folder,) = attached_folders(local)
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes()
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("end_agents")
def test_the_newest_checkpoint_of_an_earlier_run_is_found_again(local: Run) -> None:
    log_in(local)
    code = (
        "import sys; sys.modules['torch'] = t = type(sys)('torch')\n"
        "t.save = lambda state, path: open(path, 'w').write('saved') and None\n"
        "import periflow_sdk as pf; pf.init(attach=True)\n"
        "with pf.train_step(): pass\n"
        "print(pf.save_checkpoint({}).error)"
    )
    assert local.script(code).stdout == "None\n"
    again = (
        "import periflow_sdk as pf; pf.init(attach=True)\n"
        "print(pf.latest_checkpoint().name, pf.current_step())"
    )
    assert local.script(again).stdout == "checkpoint.pt 1\n"


def test_a_state_that_nobody_has_written_yet_is_not_taken_for_the_file_before_it(
    local: Run,
) -> None:
    pytest.importorskip("torch")
    log_in(local)
    code = (
        "import fcntl, json, os, signal, time, torch, periflow_sdk as pf\n"
        "from pathlib import Path\n"
        "pf.init(attach=True)\n"
        "(folder,) = (Path(os.environ['PERIFLOW_HOME']) / 'attached').iterdir()\n"
        "while not (folder / 'agent.json').exists(): time.sleep(0.01)\n"
        "os.kill(json.loads((folder / 'agent.json').read_text())['pid'], signal.SIGKILL)\n"
        "lock = (folder / 'run' / 'worker.lock').open('w')\n"
        "while True:\n"  # until the worker of the dead agent is gone
        "    try: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB); break\n"
        "    except BlockingIOError: time.sleep(0.01)\n"
        "fcntl.flock(lock, fcntl.LOCK_UN)\n"
        "with pf.train_step(): pf.save_checkpoint({'w': torch.tensor(1)})\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "with pf.train_step(): pf.save_checkpoint({'w': torch.tensor(2)})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert local.script(code, check=False).returncode == -9
    again = (
        "import torch, periflow_sdk as pf; pf.init()\n"
        "print(torch.load(pf.latest_checkpoint())['w'].item(), pf.current_step())"
    )
    assert local.script(again).stdout == "1 1\n"
    (folder,) = attached_folders(local)
    memory = Path(json.loads((folder / "attached.json").read_text())["memory_dir"])
    assert list(memory.rglob("memory-*"))
    prune_runs(folder.parent)  # as the next agent does
    assert local.script(again).stdout == "2 2\n"
    assert not memory.exists()
