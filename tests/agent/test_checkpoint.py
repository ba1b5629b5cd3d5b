"""Checkpoints of a job: uploaded while it runs, restored, and never from outside their folder."""

from __future__ import annotations

import pytest

from periflow_sdk.snapshots import download_snapshot

SAVING = """
import os, sys, time
from pathlib import Path
import periflow_sdk as pf
pf.init(total_train_steps=4)
folder = Path(os.environ["CKPT_DIR"])
last = int(os.environ["PROCESSED_ITERS"])
print("restored", os.environ.get("PERIFLOW_RESTORED_CHECKPOINT"), last, flush=True)
for step in range(last + 1, last + 5):
    with pf.train_step():
        (folder / "model.bin").write_bytes(b"%d" % step * 1000)
    pf.upload_checkpoint()
    if step == 3:
        while os.environ.get("WAIT_FOR") and not Path(os.environ["WAIT_FOR"]).exists():
            time.sleep(0.05)
pf.finish()
"""


@pytest.fixture
def saving(tmp_path):
    (tmp_path / "saving.py").write_text(SAVING)
    return tmp_path / "saving.py"


def test_checkpoints_are_there_while_the_job_runs_and_restore_the_next(
    run, client, saving, tmp_path, until
):
    job = run(f"python {saving}", env={"WAIT_FOR": str(tmp_path / "go")})

    def ready():
        found = client.checkpoints(client.project, job=job.job.number)
        return [c for c in found if c.status == "ready" and c.step == 2]

    (checkpoint,) = until(ready, job.story)
    assert job.detail.status == "running"
    download_snapshot(client, client.project, checkpoint.snapshot_id, tmp_path / "got")
    assert (tmp_path / "got" / "model.bin").read_bytes() == b"2" * 1000
    (tmp_path / "go").touch()
    job.wait("success")
    found = client.checkpoints(client.project, job=job.job.number)
    assert sorted((c.step, c.status) for c in found) == [(n, "ready") for n in (1, 2, 3, 4)]
    assert not (job.folder / "ckpt" / ".periflow").exists()

    again = run(
        f"cat /workspace/input/model.bin | head -c 3; echo; python {saving}", restored=checkpoint.id
    )
    again.wait("success")
    assert again.log == ["222", "restored /workspace/ckpt/model.bin 2"]
    assert "Restored checkpoint of step 2." in again.events
    steps = {c.step for c in client.checkpoints(client.project, job=again.job.number)}
    assert steps == {3, 4, 5, 6}


def test_checkpoint_of_a_killed_process_is_uploaded(run, client, tmp_path):
    (tmp_path / "killed.py").write_text(
        "import os, signal\n"
        "import periflow_sdk as pf\n"
        "pf.init()\n"
        "with pf.train_step(): pass\n"
        "open(os.environ['CKPT_DIR'] + '/m', 'w').write('weights')\n"
        "pf.upload_checkpoint()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    job = run(f"exec python {tmp_path}/killed.py")
    job.wait("failed")
    (checkpoint,) = client.checkpoints(client.project, job=job.job.number)
    assert (checkpoint.step, checkpoint.status) == (1, "ready")


RANKS = """
import os, sys, time
from pathlib import Path
import periflow_sdk as pf
rank, gate = int(os.environ["RANK"]), Path(sys.argv[1])
pf.init()
with pf.train_step(): pass
(Path(os.environ["CKPT_DIR"]) / f"part{rank}").write_text(f"of {rank}")
if rank == 1:
    while not gate.exists():
        time.sleep(0.05)
pf.upload_checkpoint(Path(os.environ["CKPT_DIR"]) / f"part{rank}")
os.write(1, f"rank {rank} saved\\n".encode())  # ranks share one pipe
pf.start_step()
pf.end_step()
pf.finish()
"""


def test_checkpoint_waits_for_the_slow_rank_and_joins_its_part(run, client, tmp_path):
    (tmp_path / "ranks.py").write_text(RANKS)
    command = f"RANK=1 python {tmp_path}/ranks.py {tmp_path}/go & "
    command += "until test -e $PERIFLOW_RUN_DIR/rank-1/progress; do sleep 0.05; done; "
    command += f"RANK=0 python {tmp_path}/ranks.py {tmp_path}/go; wait"
    job = run(command)
    job.wait_for_line("rank 0 saved")
    assert client.checkpoints(client.project, job=job.job.number) == []
    (tmp_path / "go").touch()
    job.wait("success")
    (checkpoint,) = client.checkpoints(client.project, job=job.job.number)
    download_snapshot(client, client.project, checkpoint.snapshot_id, tmp_path / "got")
    parts = {path.name: path.read_text() for path in (tmp_path / "got").iterdir()}
    assert parts == {"part0": "of 0", "part1": "of 1"}


ESCAPES = """
import json, os, pathlib
run = pathlib.Path(os.environ["PERIFLOW_RUN_DIR"], "rank-0")
ckpt = pathlib.Path(os.environ["CKPT_DIR"])
run.mkdir()
secret = ckpt.parent / "secret"
secret.write_text("secret")
def record(number, path, size, staged=None, mtime_ns=5_000_000_000):
    name = f"{number:032x}"
    (ckpt / ".periflow" / name).mkdir(parents=True)
    return {"t": "checkpoint", "s": number, "w": 1.0, "id": name, "save": "NORMAL",
            "staged": staged or f".periflow/{name}", "base": str(ckpt),
            "files": [{"path": path, "size": size, "mtime_ns": mtime_ns}]}
records = [record(1, "../../secret", 6), record(2, "/etc/hostname", 6),
           record(3, "secret", 6, staged="../workspace"), record(4, "link", 6),
           record(5, "folder/secret", 6), record(6, "short", 6), record(7, "good", 6),
           record(8, "good", 6, mtime_ns=4)]
(ckpt / ".periflow" / f"{4:032x}" / "link").symlink_to(secret)
(ckpt / ".periflow" / f"{5:032x}" / "folder").symlink_to(ckpt.parent)
(ckpt / ".periflow" / f"{6:032x}" / "short").write_text("x")
for number in (7, 8):
    good = ckpt / ".periflow" / f"{number:032x}" / "good"
    good.write_text("public")
    os.utime(good, (5, 5))
with open(run / ("0" * 20 + "-1.jsonl"), "w") as journal:
    for each in records:
        journal.write(json.dumps(each, separators=(",", ":")) + "\\n")
"""


def test_journal_that_names_files_elsewhere_is_refused(run, client, tmp_path):
    (tmp_path / "escapes.py").write_text(ESCAPES)
    job = run(f"python {tmp_path}/escapes.py")
    job.wait("success")
    found = client.checkpoints(client.project, job=job.job.number)
    assert {c.step: c.status for c in found} == {
        4: "failed",
        5: "failed",
        6: "failed",
        7: "ready",
        8: "failed",
    }
    reasons = {c.step: c.reason or "" for c in found}
    assert "overwritten" in reasons[8]
    assert "not a regular file" in reasons[4]
    assert "not a folder" in reasons[5]
    assert "1 bytes, not 6" in reasons[6]
