"""Agents as real processes of this machine."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import wait_until

from periflow_server import scheduler
from periflow_server.db.base import Database
from periflow_server.db.schema import import_tables
from periflow_server.executors.local import LocalExecutor, prepare_node
from periflow_server.scheduler import MOST_STARTS, Scheduler
from periflow_server.settings import Settings
from periflow_server.storage.folder import FolderStore

SLEEPER = """
import json, os, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
about = {"env": dict(os.environ), "cwd": os.getcwd(), "sid": os.getsid(0), "in": sys.stdin.read()}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         start_new_session=True)
(folder / "child").write_text(str(child.pid))
(folder / "about.tmp").write_text(json.dumps(about))
(folder / "about.tmp").rename(folder / "about.json")
print("hello from the agent", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    node = tmp_path / "job" / "1" / "0"
    prepare_node(node, "pf_jt_test")
    return node


@pytest.fixture
def executor(folder: Path) -> Iterator[LocalExecutor]:
    executor = LocalExecutor("http://127.0.0.1:1", [sys.executable, "-c", SLEEPER])
    yield executor
    executor.stop([folder])
    wait_until(lambda: executor.poll([folder]))


def agent_of(folder: Path) -> psutil.Process:
    return psutil.Process(json.loads((folder / "agent.json").read_text())["pid"])


def test_agent_is_detached_and_sees_only_what_it_needs(
    executor: LocalExecutor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERIFLOW_SERVER_SECRET_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    executor.start([folder])
    about = json.loads(wait_until(lambda: _text(folder / "about.json")))
    agent = agent_of(folder)
    assert about["sid"] == agent.pid != os.getsid(0)
    assert (about["cwd"], about["in"]) == (str(folder), "")
    assert about["env"]["PERIFLOW_URL"] == "http://127.0.0.1:1"
    assert about["env"]["PERIFLOW_TOKEN_FILE"] == str(folder / "token")
    known = {"PATH", "HOME", "LANG", "TMPDIR", "PERIFLOW_URL", "PERIFLOW_TOKEN_FILE", "LC_CTYPE"}
    assert set(about["env"]) <= known
    assert wait_until(lambda: _text(folder / "agent.log")) == "hello from the agent\n"
    assert (folder / "agent.log").stat().st_mode & 0o777 == 0o600
    assert (folder / "token").stat().st_mode & 0o777 == 0o600


def test_dead_agent_is_noticed_and_leaves_no_zombie(executor: LocalExecutor, folder: Path) -> None:
    executor.start([folder])
    assert executor.poll([folder]) == set()
    agent = agent_of(folder)
    agent.kill()
    wait_until(lambda: executor.poll([folder]) == {folder})
    assert not psutil.pid_exists(agent.pid)


def test_executor_of_a_restarted_server_finds_the_agent_again(
    executor: LocalExecutor, folder: Path
) -> None:
    executor.start([folder])
    assert LocalExecutor("http://127.0.0.1:1").poll([folder]) == set()
    noted = json.loads((folder / "agent.json").read_text())
    noted["start_time"] -= 100  # another process has got the pid
    (folder / "agent.json").write_text(json.dumps(noted))
    assert LocalExecutor("http://127.0.0.1:1").poll([folder]) == {folder}
    agent_of(folder).kill()


def test_agent_whose_pid_was_never_written_is_known_by_its_lock(folder: Path) -> None:
    executor = LocalExecutor("http://127.0.0.1:1")
    with (folder / "agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert executor.poll([folder]) == set()
    assert executor.poll([folder]) == {folder}


@pytest.mark.parametrize("keep", [True, False])
def test_stop_takes_the_training_along_unless_it_is_to_be_adopted(
    executor: LocalExecutor, folder: Path, keep: bool
) -> None:
    executor.start([folder])
    training = psutil.Process(int(wait_until(lambda: _text(folder / "child"))))
    document = {"pid": training.pid, "start_time": training.create_time()}
    (folder / "training.json").write_text(json.dumps(document))
    executor.stop([folder], keep_training=keep)
    wait_until(lambda: executor.poll([folder]) == {folder})
    assert training.is_running() is keep or wait_until(lambda: not _lives(training))
    if keep:
        training.kill()


def test_job_whose_agents_never_speak_is_lost_after_bounded_starts(
    own_desk: Any, tmp_path: Path
) -> None:
    desk = own_desk
    job = desk.submit(restart={"on": []})
    desk.agent(job)
    desk.server.stop()
    script = "import sys; print('started', flush=True); sys.exit(1)"
    run_scheduler(desk, LocalExecutor("http://127.0.0.1:1", [sys.executable, "-c", script]))
    desk.server.start()
    desk.reconnect()
    lost = desk.job(job.number)
    assert (lost.status, lost.attempts[0].status) == ("failed", "node-lost")
    log = desk.server.data_dir / "jobs" / job.id / "1" / "0" / "agent.log"
    assert log.read_text() == "started\n" * MOST_STARTS


def test_agent_that_hangs_is_replaced(own_desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = own_desk
    job = desk.submit(restart={"on": []})
    desk.agent(job)
    desk.server.stop()
    monkeypatch.setattr(scheduler, "LEASE_SECONDS", 0.2)
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    run_scheduler(desk, LocalExecutor("http://127.0.0.1:1", [sys.executable, "-c", script]))
    log = desk.server.data_dir / "jobs" / job.id / "1" / "0" / "agent.log"
    pids = [int(line) for line in log.read_text().splitlines()]
    assert len(set(pids)) == MOST_STARTS
    assert not any(psutil.pid_exists(pid) for pid in pids)


def run_scheduler(desk: Any, executor: LocalExecutor) -> None:
    """Run a scheduler in this process on the stopped server's data until no attempt lives."""
    from periflow_server.db.attempt import live_nodes

    data_dir = desk.server.data_dir
    database = Database(desk.server.database_url)
    import_tables()
    settings = Settings(data_dir=data_dir)
    thread = Scheduler(database, FolderStore(data_dir / "storage"), settings, executor)
    thread.start()

    def is_over() -> bool:
        with database.read() as session:
            return not live_nodes(session)

    try:
        wait_until(is_over)
    finally:
        thread.stop()
        database.close()


def _text(path: Path) -> str | None:
    try:
        return path.read_text() or None
    except OSError:
        return None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
