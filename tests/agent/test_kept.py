"""A checkpoint that could not be sent stays on the disk, and the next attempt sends it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.kept import earlier_attempts, remove_unkept
from periflow_sdk.snapshots import download_snapshot

SAVING = """
import os, sys, time
from pathlib import Path
import periflow_sdk as pf
pf.init()
print("ready", flush=True)
while not Path(sys.argv[1]).exists():
    time.sleep(0.02)
with pf.train_step():
    Path(os.environ["CKPT_DIR"], "model.bin").write_bytes(b"w" * 1000)
pf.upload_checkpoint()
with pf.train_step():
    pass
while Path(sys.argv[1]).exists():
    time.sleep(0.02)
pf.finish()
"""
WAITING = "while ! test -e {gate}; do sleep 0.05; done"


@pytest.fixture
def saving(tmp_path):
    (tmp_path / "saving.py").write_text(SAVING)
    return f"exec python {tmp_path}/saving.py {tmp_path}/gate"


def test_checkpoint_that_cannot_be_sent_says_where_it_is_and_the_next_attempt_sends_it(
    run, client, saving, tmp_path, until
):
    first = run(saving)
    first.wait_for_line("ready")
    project = use_project(first.folder, "nowhere")
    (tmp_path / "gate").touch()

    def failed():
        found = client.checkpoints(client.project, job=first.job.number)
        return [c for c in found if c.status == "failed"]

    (checkpoint,) = until(failed, first.story)
    reason, _, place = (checkpoint.reason or "").partition("; kept in ")
    assert reason and (Path(place) / "model.bin").read_bytes() == b"w" * 1000
    assert any("kept in" in message for message in first.events)
    (tmp_path / "gate").unlink()
    first.wait("success")
    assert (Path(place) / "model.bin").exists()
    use_project(first.folder, project)

    # The first attempt's folder, as an earlier attempt of this job would have left it.
    second = run(WAITING.format(gate=tmp_path / "end"))
    second.wait("running")
    earlier = second.folder.parent.parent / "0" / "0"
    shutil.copytree(first.folder, earlier, symlinks=True)
    os.kill(until(second.worker_pid, second.story), signal.SIGKILL)

    def ready():
        found = client.checkpoints(client.project, job=second.job.number)
        return [c for c in found if c.status == "ready"]

    (checkpoint,) = until(ready, second.story)
    download_snapshot(client, client.project, checkpoint.snapshot_id, tmp_path / "got")
    assert checkpoint.step == 1 and (tmp_path / "got/model.bin").read_bytes() == b"w" * 1000
    until(lambda: not (earlier / "ckpt" / ".periflow").exists(), second.story)
    (tmp_path / "end").touch()
    second.wait("success")


def test_only_what_could_not_be_sent_outlives_an_attempt(tmp_path):
    folder = NodeFolder.open(tmp_path / "2" / "0")
    names = [f"{n:032x}" for n in range(2)]
    for name in names:
        (folder.checkpoint / ".periflow" / name).mkdir(parents=True)
    (folder.checkpoint / ".periflow" / "latest-rank0.json").write_text("{}")
    part = {"rank": 0, "upload_id": names[1], "files": {"m": 1}}
    kept = {"step": 1, "save_type": "NORMAL", "parts": [part]}
    (folder / "worker.json").write_text(json.dumps({"ledger": {"kept": [kept]}}))
    remove_unkept(folder)
    left = sorted(path.name for path in (folder.checkpoint / ".periflow").iterdir())
    assert left == [names[1], "latest-rank0.json"]


def test_earlier_attempts_of_the_same_node_are_found_in_order(tmp_path):
    for name in ("1/0", "2/0", "10/0", "2/1", "12/0", "note"):
        (tmp_path / name).mkdir(parents=True)
    found = earlier_attempts(NodeFolder.open(tmp_path / "11" / "0"))
    assert [folder.path for folder in found] == [tmp_path / n / "0" for n in ("1", "2", "10")]


def use_project(folder: Path, project: str) -> str:
    """Make uploads of this node go to another project; the one before."""
    path = folder / "assignment.json"
    document = json.loads(path.read_text())
    before, document["project_id"] = document["project_id"], project
    path.write_text(json.dumps(document))
    return str(before)
