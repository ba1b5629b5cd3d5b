"""upload_checkpoint takes files as they are at the call."""

from __future__ import annotations

import os
import shutil
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import periflow_sdk as pf
from periflow_sdk import _staging

if TYPE_CHECKING:
    from conftest import Run


def staged(job: Run, upload: pf.Upload) -> dict[str, bytes]:
    """What the agent will find, by path."""
    folder = job.checkpoints / ".periflow" / upload.id
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_overwriting_a_file_in_place_leaves_its_staged_copy(job: Run) -> None:
    torch = pytest.importorskip("torch")
    path = job.checkpoints / "checkpoint.pt"
    pf.init()
    torch.save({"step": torch.tensor(1)}, path)
    inode = path.stat().st_ino
    upload = pf.upload_checkpoint()
    torch.save({"step": torch.tensor(2)}, path)
    assert path.stat().st_ino == inode  # the case that a hard link would not survive
    copy = job.checkpoints / ".periflow" / upload.id / "checkpoint.pt"
    assert torch.load(copy)["step"] == 1


def test_record_names_what_is_staged(job: Run) -> None:
    pf.init()
    (job.checkpoints / "sub").mkdir()
    (job.checkpoints / "sub" / "a.bin").write_bytes(b"abc")
    (job.checkpoints / "empty").write_bytes(b"")
    with pf.train_step():
        upload = pf.upload_checkpoint()
    (record,) = job.records(kind="checkpoint")
    assert (record["s"], record["id"], record["save"]) == (1, upload.id, "NORMAL")
    assert record["base"] == str(job.checkpoints)
    folder = Path(record["base"]) / record["staged"]
    assert {f["path"]: f["size"] for f in record["files"]} == {"empty": 0, "sub/a.bin": 3}
    for file in record["files"]:
        status = (folder / file["path"]).stat()
        assert (status.st_size, status.st_mtime_ns) == (file["size"], file["mtime_ns"])
    assert (upload.step, upload.size, upload.error) == (1, 3, None)


def test_only_what_has_changed_since_the_last_upload_is_taken(job: Run) -> None:
    pf.init()
    (job.checkpoints / "config.json").write_bytes(b"{}")
    (job.checkpoints / "model.pt").write_bytes(b"1")
    first = pf.upload_checkpoint()
    (job.checkpoints / "model.pt").write_bytes(b"2")
    second = pf.upload_checkpoint()
    third = pf.upload_checkpoint()
    assert staged(job, first) == {"config.json": b"{}", "model.pt": b"1"}
    assert staged(job, second) == {"model.pt": b"2"}
    assert staged(job, third) == {} and third.done
    assert len(job.records(kind="checkpoint")) == 2


def test_restored_checkpoint_is_not_taken_for_new(
    job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = job.checkpoints / "step-1.pt"
    old.write_bytes(b"old")
    monkeypatch.setenv("PERIFLOW_RESTORED_CHECKPOINT", str(old))
    pf.init()
    (job.checkpoints / "step-2.pt").write_bytes(b"new")
    assert staged(job, pf.upload_checkpoint()) == {"step-2.pt": b"new"}


def test_temporary_files_and_our_own_are_left_out(job: Run) -> None:
    pf.init()
    for name in ("a.pt", "a.pt.tmp", ".tmp-x", ".tmpfile"):
        (job.checkpoints / name).write_bytes(b"x")
    upload = pf.upload_checkpoint(job.checkpoints)
    assert staged(job, upload) == {"a.pt": b"x"}
    assert staged(job, pf.upload_checkpoint(job.checkpoints)) == {"a.pt": b"x"}


def test_named_file_and_folder_keep_their_place(job: Run) -> None:
    pf.init()
    folder = job.checkpoints / "step-5"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    assert staged(job, pf.upload_checkpoint(folder)) == {"step-5/a": b"a", "step-5/b": b"b"}
    assert staged(job, pf.upload_checkpoint(str(folder / "a"))) == {"step-5/a": b"a"}


def test_path_outside_the_checkpoint_folder_goes_by_its_own_name(job: Run) -> None:
    pf.init()
    other = job.folder / "elsewhere" / "export"
    other.mkdir(parents=True)
    (other / "model.bin").write_bytes(b"m")
    assert staged(job, pf.upload_checkpoint(other)) == {"export/model.bin": b"m"}
    assert staged(job, pf.upload_checkpoint(other / "model.bin")) == {"model.bin": b"m"}


def test_modes_are_kept_and_links_to_files_are_followed(job: Run) -> None:
    pf.init()
    tool = job.checkpoints / "run.sh"
    tool.write_bytes(b"#!")
    tool.chmod(0o755)
    (job.checkpoints / "latest").symlink_to("run.sh")
    (job.checkpoints / "loop").symlink_to(".")
    (job.checkpoints / "broken").symlink_to("nowhere")
    os.mkfifo(job.checkpoints / "pipe")
    upload = pf.upload_checkpoint()
    assert staged(job, upload) == {"run.sh": b"#!", "latest": b"#!"}
    copy = job.checkpoints / ".periflow" / upload.id / "run.sh"
    assert copy.stat().st_mode & 0o777 == 0o755


def test_name_that_is_not_utf8_publishes_nothing_and_says_so(job: Run) -> None:
    pf.init()
    (Path(os.fsdecode(os.fsencode(job.checkpoints) + b"/bad\xff"))).write_bytes(b"x")
    upload = pf.upload_checkpoint()
    assert upload.error is not None and job.records(kind="checkpoint") == []


def test_file_that_changes_while_it_is_copied_is_copied_again(
    job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = job.checkpoints / "model.pt"
    path.write_bytes(b"one")
    copy, calls = _staging._copy, []

    def overwritten_meanwhile(source: Path, target: Path, mtime_ns: int) -> None:
        copy(source, target, mtime_ns)
        calls.append(source)
        if len(calls) == 1:
            path.write_bytes(b"two")

    monkeypatch.setattr(_staging, "_copy", overwritten_meanwhile)
    pf.init()
    upload = pf.upload_checkpoint()
    assert staged(job, upload) == {"model.pt": b"two"} and len(calls) == 2


def test_file_that_never_stands_still_is_not_published(
    job: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = job.checkpoints / "model.pt"
    path.write_bytes(bytes(1000))
    copy = _staging._copy

    def always_overwritten(source: Path, target: Path, mtime_ns: int) -> None:
        copy(source, target, mtime_ns)
        with path.open("r+b") as file:
            file.write(os.urandom(1000))

    pf.init()
    with monkeypatch.context() as patch:
        patch.setattr(_staging, "_copy", always_overwritten)
        upload = pf.upload_checkpoint()
    assert upload.error == "model.pt is still being written" and not upload.wait()
    assert job.records(kind="checkpoint") == []
    assert list((job.checkpoints / ".periflow").iterdir()) == []
    assert "model.pt is still being written" in capfd.readouterr().err
    assert pf.upload_checkpoint().error is None  # now it stands still


def test_checkpoint_that_cannot_be_recorded_is_not_left_behind(job: Run) -> None:
    pf.init()
    (job.checkpoints / "a.bin").write_bytes(b"x")
    pf._training._run.log.file.abandon("the disk is gone")  # type: ignore[union-attr]
    assert pf.upload_checkpoint().error == "the journal cannot be written"
    assert list((job.checkpoints / ".periflow").iterdir()) == []


def test_upload_is_done_when_the_agent_has_taken_the_staged_files_away(job: Run) -> None:
    pf.init()
    (job.checkpoints / "a.bin").write_bytes(b"x")
    upload = pf.upload_checkpoint()
    assert not upload.done and not upload.wait(timeout_seconds=0.05)
    commit = threading.Timer(0.1, shutil.rmtree, [job.checkpoints / ".periflow" / upload.id])
    commit.start()
    assert upload.wait(timeout_seconds=30) and upload.done
    commit.join()


def test_job_without_a_checkpoint_folder_warns_and_goes_on(
    job: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CKPT_DIR")
    pf.init()
    assert "CKPT_DIR" in (pf.upload_checkpoint().error or "")
    assert pf.upload_checkpoint().error and pf.status().failed_uploads == 2
    assert capfd.readouterr().err.count("CKPT_DIR") == 1


def test_uploads_outside_a_job_do_nothing(local: Run) -> None:
    pf.init()
    (local.checkpoints / "a.bin").write_bytes(b"x")
    for upload in (pf.upload_checkpoint(), pf.upload_checkpoint(local.checkpoints / "a.bin")):
        assert upload.done and upload.wait() and (upload.size, upload.error) == (0, None)
    assert [p.name for p in local.checkpoints.iterdir()] == ["a.bin"]


def test_file_system_that_cannot_copy_by_itself_is_copied_by_hand(
    job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    pf.init()
    data = os.urandom(3_000_000)
    (job.checkpoints / "a.bin").write_bytes(data)
    assert staged(job, pf.upload_checkpoint()) == {"a.bin": data}


def test_killed_while_staging_leaves_no_record(job: Run) -> None:
    (job.checkpoints / "a.bin").write_bytes(bytes(1000))
    code = textwrap.dedent("""
        import os, signal
        from periflow_sdk import _staging
        import periflow_sdk as pf
        pf.init()
        _staging.copy_bytes = lambda read, write: os.kill(os.getpid(), signal.SIGKILL)
        _staging._clone = lambda read, write: False
        pf.upload_checkpoint()
    """)
    assert job.script(code, check=False).returncode == -9
    assert job.records(kind="checkpoint") == []


def test_nothing_to_upload_is_said_once(job: Run, capfd: pytest.CaptureFixture[str]) -> None:
    pf.init()
    for _ in range(2):
        assert pf.upload_checkpoint().error is None
    assert capfd.readouterr().err.count("found nothing new in CKPT_DIR") == 1


def test_files_that_a_thread_has_written_are_of_the_step_it_names(job: Run) -> None:
    pf.init(total_train_steps=3)
    for _ in range(3):
        with pf.train_step():
            pass
    (job.checkpoints / "late.pt").write_bytes(b"weights")
    pf.upload_checkpoint(job.checkpoints / "late.pt", step=2)
    assert job.records(kind="checkpoint")[0]["s"] == 2
    for step in (4, -1, True, "2"):
        with pytest.raises(pf.PeriFlowError, match="a step that was begun"):
            pf.upload_checkpoint(job.checkpoints / "late.pt", step=step)
