"""States left in memory become checkpoints, whatever dies after save_checkpoint has returned."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from warm_python import warm_python

from periflow_sdk.snapshots import download_snapshot

SAVING = """
import fcntl, os, signal, sys, time
from pathlib import Path
import torch
import periflow_sdk as pf
pf.init(total_train_steps=3)
lock = Path(os.environ["PERIFLOW_RUN_DIR"], "worker.lock")
def is_served():
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        pass
    except BlockingIOError:
        return True
    return False
while not is_served():
    time.sleep(0.01)
for step in range(1, 4):
    with pf.train_step():
        pf.save_checkpoint({"w": torch.full((500_000,), float(step))}, "m/model.pt")
    if step == 2 and len(sys.argv) > 1:
        Path(sys.argv[1]).touch()
        while Path(sys.argv[1]).exists():
            time.sleep(0.01)
print("by training", pf.status().saves_by_training, flush=True)
os.environ.get("DIE") and os.kill(os.getpid(), signal.SIGKILL)
pf.finish()
print("there", torch.load(os.environ["CKPT_DIR"] + "/m/model.pt")["w"][0].item(), flush=True)
"""


@pytest.fixture
def saving(tmp_path):
    (tmp_path / "saving.py").write_text(SAVING)
    return tmp_path / "saving.py"


def saved(run, client, target: Path) -> dict[int, float]:
    """The checkpoints of a job: step → what is in them."""
    torch = pytest.importorskip("torch")
    found = {}
    for checkpoint in client.checkpoints(client.project, job=run.job.number):
        assert checkpoint.status == "ready", checkpoint.reason
        folder = target / str(checkpoint.step)
        download_snapshot(client, client.project, checkpoint.snapshot_id, folder)
        loaded = torch.load(folder / "m" / "model.pt", weights_only=True)["w"]
        assert loaded.eq(loaded[0]).all() and (folder / "m/model.pt").stat().st_size > 0
        assert checkpoint.size == (folder / "m" / "model.pt").stat().st_size
        found[checkpoint.step] = loaded[0].item()
    return found


def test_training_killed_right_after_saving_loses_no_checkpoint(run, client, saving, tmp_path):
    job = run(f"exec {warm_python()} {saving}", env={"DIE": "1"})
    job.wait("failed")
    assert saved(job, client, tmp_path / "got") == {1: 1.0, 2: 2.0, 3: 3.0}
    run_dir = Path(job.read("state.json")["run_dir"])
    assert not run_dir.exists()


def test_worker_killed_while_states_wait_is_followed_by_another(
    run, client, saving, tmp_path, until
):
    job = run(f"exec {warm_python()} {saving} {tmp_path}/gate")
    until((tmp_path / "gate").exists, job.story)
    pid = job.worker_pid()
    assert pid
    os.kill(pid, signal.SIGKILL)
    (tmp_path / "gate").unlink()
    job.wait("success")
    assert job.log[-1] == "there 3.0"  # finish() waits for what is still in memory
    assert saved(job, client, tmp_path / "got") == {1: 1.0, 2: 2.0, 3: 3.0}
