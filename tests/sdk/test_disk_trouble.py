"""Trouble with the disk is told once, counted, and never stops the training."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING

import pytest

import periflow_sdk as pf
from periflow_sdk import _append_file

if TYPE_CHECKING:
    from conftest import Run


FULL_DISK = textwrap.dedent("""
    import resource, sys
    import periflow_sdk as pf
    pf.init(local_log_name=sys.argv[1] if len(sys.argv) > 1 else "metrics.jsonl")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, limit[1]))
    for step in range(1, 2001):
        with pf.train_step():
            pf.metric({"loss": float(step)})
    lost = pf.status().lost_records
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    with pf.train_step():
        pf.metric({"loss": 2001.0})
    print(lost, pf.status().lost_records, pf.status().error, sep="|")
""")


def test_full_disk_loses_counted_records_only_and_recovers(run: Run) -> None:
    done = run.script(FULL_DISK)
    lost, after, error = done.stdout.strip().split("|")
    kept = run.metrics() if run.mode == "job" else readable(run)
    steps = len(run.records(kind="step")) if run.mode == "job" else 0
    assert kept[-1] == (2001, {"loss": 2001.0})
    assert [s for s, _ in kept[:-1]] == list(range(1, len(kept)))
    assert int(lost) == int(after) == (4002 if run.mode == "job" else 2001) - len(kept) - steps
    assert int(lost) > 50 and error
    assert done.stderr.count("records are lost") == 1 and len(done.stderr.splitlines()) == 1


def readable(run: Run) -> list[tuple[int, dict[str, float]]]:
    found = []
    for line in run.log_name.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found.append((entry["step"], {"loss": entry["loss"]}))
    return found


def test_record_after_a_short_write_starts_a_new_line(
    local: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pf.init(local_log_name=local.log_name)
    write = _append_file._write
    monkeypatch.setattr(_append_file, "_write", lambda fd, data: write(fd, data[:10]))
    pf.metric({"loss": 1.0})
    monkeypatch.setattr(_append_file, "_write", write)
    pf.metric({"loss": 2.0})
    pf.metric({"loss": 3.0})
    torn, second, third = local.log_name.read_text().splitlines()
    assert torn == '{"step":0,'
    assert json.loads(second)["loss"] == 2.0
    assert json.loads(third)["loss"] == 3.0
    assert pf.status().lost_records == 1


def test_deleted_run_directory_is_told_and_training_goes_on(
    job: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    pf.init()
    shutil.rmtree(job.run_dir)
    for _ in range(1000):
        with pf.train_step():
            pf.metric({"loss": 1.0})
    assert pf.current_step() == 1000
    assert pf.status().lost_records > 0 and pf.status().error
    pf.finish()
    assert not job.run_dir.exists()
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_deleted_segment_is_followed_by_a_new_one(job: Run) -> None:
    pf.init()
    job.segments()[0].unlink()
    for _ in range(1000):
        with pf.train_step():
            pf.metric({"loss": 1.0})
    (segment,) = job.segments()
    assert json.loads(segment.read_text().splitlines()[0])["t"] == "header"
    assert pf.status().lost_records == 0
    assert job.metrics()[-1] == (1000, {"loss": 1.0})


def test_missing_run_directory_does_not_stop_the_training(
    job: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    job.run_dir.rmdir()
    pf.init(total_train_steps=3)
    with pf.train_step():
        pf.metric({"loss": 1.0})
    assert pf.current_step() == 1 and pf.status().lost_records == 3
    assert "records are lost" in capfd.readouterr().err


def test_closed_stderr_does_not_stop_the_training(job: Run) -> None:
    done = job.script(
        "import sys, shutil, os; import periflow_sdk as pf\n"
        "shutil.rmtree(os.environ['PERIFLOW_RUN_DIR']); sys.stderr.close(); sys.stderr = None\n"
        "pf.init(); pf.metric({'a': 1}); print(pf.status().lost_records)"
    )
    assert done.stdout.strip() == "2"


def test_full_disk_leaves_no_half_checkpoint(job: Run) -> None:
    (job.checkpoints / "big.bin").write_bytes(bytes(200_000))
    done = job.script(
        "import resource; import periflow_sdk as pf\n"
        "pf.init()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "first, second = pf.upload_checkpoint(), pf.upload_checkpoint()\n"
        "print(first.error, first.done, first.wait(), pf.status().failed_uploads, sep='|')"
    )
    error, is_done, waited, failed = done.stdout.strip().split("|")
    assert error == "File too large" and (is_done, waited, failed) == ("False", "False", "2")
    assert done.stderr.count("is not uploaded") == 1
    assert job.records(kind="checkpoint") == []
    assert list((job.checkpoints / ".periflow").iterdir()) == []


def test_full_disk_leaves_the_last_saved_checkpoint(run: Run) -> None:
    pytest.importorskip("torch")
    done = run.script(
        "import resource, torch; import periflow_sdk as pf\n"
        "pf.init()\n"
        "pf.save_checkpoint({'w': torch.ones(3)})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "upload = pf.save_checkpoint({'w': torch.ones(100_000)})\n"
        "print(upload.error); print(len(torch.load(pf.latest_checkpoint())['w']))"
    )
    error, length = done.stdout.splitlines()
    assert error != "None" and length == "3"
    assert [p.name for p in run.checkpoints.iterdir() if p.is_file()] == ["checkpoint.pt"]
