"""What the next attempt starts from when checkpoints turn out to be damaged."""

from __future__ import annotations

import json

import pytest

TWO_ATTEMPTS = """
import os, sys, time
from pathlib import Path
import periflow_sdk as pf
gate = Path(sys.argv[1])
pf.init(total_train_steps=3)
path = Path(os.environ["CKPT_DIR"]) / "model.bin"
print("begins at", pf.current_step(), path.read_text()[:6] if path.exists() else "-", flush=True)
if pf.current_step():
    for _ in range(pf.current_step(), 3):
        with pf.train_step(): pass
    sys.exit(0)
for step in (1, 2):
    with pf.train_step():
        path.write_text(f"step {step} " * 1000)
    pf.upload_checkpoint()
pf.start_step()
while not gate.exists():
    time.sleep(0.02)
os._exit(75)
"""


def damage(server, client, checkpoint) -> None:
    """Overwrite the bytes of a checkpoint in the store."""
    manifest = json.loads(client.manifest(client.project, checkpoint.snapshot_id))
    for name, size in manifest["chunks"]:
        chunk = server.data_dir / "storage/chunks" / client.project / name[:2] / name
        chunk.chmod(0o600)
        chunk.write_bytes(b"x" * size)


@pytest.fixture
def begin(run, client, tmp_path, until):
    """A job whose first attempt has two checkpoints and ends when the gate is there."""

    def _begin():
        (tmp_path / "two.py").write_text(TWO_ATTEMPTS)
        command = f"exec python {tmp_path}/two.py {tmp_path}/gate"
        job = run(command, restart={"backoff_seconds": 0})

        def ready():
            found = client.checkpoints(client.project, job=job.job.number)
            return sorted((c for c in found if c.status == "ready"), key=lambda c: c.step)

        until(lambda: len(ready()) == 2, job.story)
        return job, ready()

    return _begin


def test_damaged_checkpoint_is_passed_over_for_the_one_before(begin, server, client, tmp_path):
    job, (_, newest) = begin()
    damage(server, client, newest)
    (tmp_path / "gate").touch()
    detail = job.wait("success")
    assert [line for line in job.log if line.startswith("begins")] == [
        "begins at 0 -",
        "begins at 1 step 1",
    ]
    warnings = [event.message for event in detail.events if event.kind == "warning"]
    assert any("checkpoint of step 2 is damaged" in message for message in warnings)


def test_job_without_a_whole_checkpoint_fails_and_never_begins_again(
    begin, server, client, tmp_path
):
    job, checkpoints = begin()
    for checkpoint in checkpoints:
        damage(server, client, checkpoint)
    (tmp_path / "gate").touch()
    detail = job.wait("failed")
    assert "No checkpoint of this job is whole (step 2, 1)" in detail.reason
    assert [line for line in job.log if line.startswith("begins")] == ["begins at 0 -"]
