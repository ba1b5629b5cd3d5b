"""Run directories that no agent comes back to: given back, but never with what was not sent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from periflow_sdk.agent.folder import NodeFolder, try_lock
from periflow_sdk.agent.rundir import retire_deserted
from periflow_sdk.agent.sync import sync_folder
from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import NotFoundError

LAST_WORDS = """
import signal, sys, time
import periflow_sdk as pf
pf.init(total_train_steps=40)
def count(steps):
    for _ in range(steps):
        with pf.train_step():
            pf.metric({"value": pf.current_step() * 0.5})
def leave(number, frame):
    count(30)
    sys.exit(1)
signal.signal(signal.SIGTERM, leave)
count(10)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def superseded(run, server, until, tmp_path) -> Any:
    """A job whose agent was told that it is over, and whose training then wrote 30 steps more."""
    (tmp_path / "words.py").write_text(LAST_WORDS)
    job = run(f"exec python {tmp_path}/words.py")
    job.wait_for_line("ready")
    with ApiClient(server.url, (job.folder / "token").read_text()) as agent:
        agent.finish_attempt(m.AgentFinish(outcome="error", reason="another has it"))
    until(lambda: not is_agent_alive(job.folder), job.story)
    return job


def is_agent_alive(folder: Path) -> bool:
    lock = try_lock(folder / "agent.lock")
    if lock is not None:
        os.close(lock)
    return lock is None


def values(job: Any) -> list[float]:
    try:
        found = job.client.metric_series(job.client.project, job.job.number, "value")
    except NotFoundError:
        return []
    return list(found.values)


def test_superseded_attempt_keeps_records_that_were_not_sent_until_sync_sends_them(
    superseded, client, monkeypatch
):
    for name in ("PERIFLOW_URL", "PERIFLOW_TOKEN_FILE"):
        monkeypatch.setenv(name, "")  # sync sets them for its worker
    state = superseded.read("state.json")
    assert (state["phase"], state["run_dir"]) == ("superseded", str(superseded.folder / "run"))
    name = f"{superseded.job.id}-1-0"
    assert not Path(f"/dev/shm/periflow-{os.getuid()}/{name}").exists()
    assert "pf job sync" in (superseded.folder / "agent.log").read_text()
    assert len(values(superseded)) < 40

    synced = sync_folder(client, "local", superseded.folder)
    assert synced.journal_bytes > 0
    assert values(superseded) == [step * 0.5 for step in range(1, 41)]
    assert not (superseded.folder / "run").exists()
    assert sync_folder(client, "local", superseded.folder).journal_bytes == 0


@pytest.fixture
def deserted(tmp_path, request) -> NodeFolder:
    """A node folder whose agent is gone, its run directory in memory, one line of two sent."""
    folder = NodeFolder.open(tmp_path / "node")
    run_dir = Path(f"/dev/shm/periflow-test-{os.getpid()}-{tmp_path.name}")
    rank = run_dir / "rank-0"
    rank.mkdir(parents=True)
    name = f"{1:020}-7"
    (rank / f"{name}.jsonl").write_bytes(b'{"s":1}\n{"s":2}\n{"torn')
    (rank / "memory-7-1").write_bytes(b"half a state")
    os.mkfifo(run_dir / "socket")
    state = {"run_dir": str(run_dir), "journal_offsets": {f"0/{name}": 8}}
    (folder / "state.json").write_text(json.dumps(state))
    request.addfinalizer(lambda: shutil.rmtree(run_dir, ignore_errors=True))
    return folder


def run_dir_of(folder: NodeFolder) -> Path:
    return Path(json.loads((folder / "state.json").read_text())["run_dir"])


def test_records_that_were_not_sent_move_to_the_disk(deserted):
    before = run_dir_of(deserted)
    assert retire_deserted(deserted) == deserted / "run" == run_dir_of(deserted)
    assert not before.exists()
    (segment,) = (deserted / "run").rglob("*.jsonl")
    assert segment.read_bytes().startswith(b'{"s":1}\n{"s":2}\n')
    assert not list((deserted / "run").rglob("memory-*"))
    assert retire_deserted(deserted) == deserted / "run"


def test_what_was_sent_whole_is_removed_whatever_a_kill_has_torn(deserted):
    state = json.loads((deserted / "state.json").read_text())
    state["journal_offsets"] = dict.fromkeys(state["journal_offsets"], 16)
    (deserted / "state.json").write_text(json.dumps(state))
    assert retire_deserted(deserted) is None
    assert not run_dir_of(deserted).exists() and not (deserted / "run").exists()


@pytest.mark.parametrize("name", ["agent.lock", "shim.lock"])
def test_a_folder_that_somebody_works_in_is_left_alone(deserted, name):
    lock = try_lock(deserted / name)
    try:
        assert retire_deserted(deserted) is None
    finally:
        os.close(lock)
    assert run_dir_of(deserted).exists()


def test_a_disk_that_takes_nothing_leaves_the_records_in_memory(deserted):
    before = run_dir_of(deserted)
    (deserted / "run.new").write_text("in the way")
    (deserted / "run.new").chmod(0)
    with pytest.raises(OSError):
        retire_deserted(deserted)
    assert run_dir_of(deserted) == before
    assert list(before.rglob("*.jsonl"))


def test_a_server_that_starts_gives_back_what_a_dead_agent_held_in_memory(
    own_server, run_on, until
):
    job = run_on(own_server, "sleep 600", restart={"on": []})
    job.wait("running")
    run_dir = run_dir_of(NodeFolder(job.folder))
    assert run_dir.parent.parent == Path("/dev/shm")
    sent = run_dir / "rank-0"
    sent.mkdir()
    own_server.kill()
    for name in ("agent.json", "training.json"):
        os.kill(job.read(name)["pid"], signal.SIGKILL)
    (sent / f"{1:020}-7.jsonl").write_bytes(b'{"s":1}\n')
    with sqlite3.connect(own_server.data_dir / "periflow.db") as database:
        database.execute("UPDATE attempts SET status = 'node-lost'")
        database.execute("UPDATE jobs SET status = 'failed'")
    own_server.start()
    until(lambda: not run_dir.exists(), own_server.log)
    (kept,) = (job.folder / "run").glob("rank-0/*.jsonl")
    assert kept.read_bytes() == b'{"s":1}\n'


def test_the_next_attempt_gives_back_what_the_last_one_held_in_memory(
    run, until, deserted, tmp_path
):
    before = run_dir_of(deserted)
    job = run(f"while ! test -e {tmp_path}/gate; do sleep 0.05; done")
    job.wait("running")
    earlier = job.folder.parent.parent / "0" / "0"
    shutil.copytree(deserted.path, earlier)
    os.kill(until(job.worker_pid, job.story), signal.SIGKILL)
    until(lambda: not before.exists(), job.story)
    until(lambda: (earlier / "unsent").exists(), job.story)
    assert f"Not all records of attempt 0 were sent: pf job sync {earlier}" in job.events
    assert list((earlier / "run").rglob("*.jsonl"))
    (tmp_path / "gate").touch()
    job.wait("success")
