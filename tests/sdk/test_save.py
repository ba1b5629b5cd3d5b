"""save_checkpoint writes whole files, and latest_checkpoint finds them."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import periflow_sdk as pf
from periflow_sdk.errors import MissingExtraError, UsageError

torch: Any = pytest.importorskip("torch")

if TYPE_CHECKING:
    from conftest import Run


def test_saved_state_is_read_back(run: Run) -> None:
    pf.init()
    upload = pf.save_checkpoint({"w": torch.arange(3)}, "step-1/model.pt")
    assert upload.error is None
    path = pf.latest_checkpoint()
    assert path == run.checkpoints / "step-1" / "model.pt"
    assert torch.load(path)["w"].tolist() == [0, 1, 2]
    visible = [p.name for p in run.checkpoints.rglob("*.pt") if ".periflow" not in p.parts]
    assert visible == ["model.pt"]


@pytest.mark.parametrize("name", ["last", "step.10/last", "v1.5"])
def test_name_needs_no_suffix(run: Run, name: str) -> None:
    pf.init()
    assert pf.save_checkpoint({"w": torch.arange(3)}, name).error is None
    assert torch.load(run.checkpoints / name)["w"].tolist() == [0, 1, 2]


def test_saving_again_leaves_the_staged_copy(job: Run) -> None:
    pf.init()
    first = pf.save_checkpoint({"w": torch.tensor(1)})
    second = pf.save_checkpoint({"w": torch.tensor(2)})
    folder = job.checkpoints / ".periflow"
    assert torch.load(folder / first.id / "checkpoint.pt")["w"] == 1
    assert torch.load(folder / second.id / "checkpoint.pt")["w"] == 2
    for record in job.records(kind="checkpoint"):
        (file,) = record["files"]
        status = (folder / record["id"] / file["path"]).stat()
        assert (status.st_size, status.st_mtime_ns) == (file["size"], file["mtime_ns"])


def test_saved_checkpoint_is_not_uploaded_twice(job: Run) -> None:
    pf.init()
    pf.save_checkpoint({"w": torch.tensor(1)})
    assert pf.upload_checkpoint().size == 0
    assert len(job.records(kind="checkpoint")) == 1


def test_file_system_without_links_is_served_by_a_copy(
    job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    pf.init()
    upload = pf.save_checkpoint({"w": torch.tensor(1)})
    copy = job.checkpoints / ".periflow" / upload.id / "checkpoint.pt"
    assert upload.error is None and torch.load(copy)["w"] == 1


def test_killed_save_leaves_the_old_file_and_the_next_one_cleans_up(run: Run) -> None:
    code = textwrap.dedent("""
        import os, signal, torch, periflow_sdk as pf
        pf.init()
        pf.save_checkpoint({"w": torch.tensor(1)})
        def die(state, path):
            path.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        torch.save = die
        pf.save_checkpoint({"w": torch.tensor(2)})
    """)
    assert run.script(code, check=False).returncode == -9
    assert torch.load(run.checkpoints / "checkpoint.pt")["w"] == 1
    pf.init()
    pf.save_checkpoint({"w": torch.tensor(3)})
    names = sorted(p.name for p in run.checkpoints.iterdir())
    assert names == [".periflow", "checkpoint.pt"]


def test_state_that_cannot_be_pickled_is_the_callers_error(run: Run) -> None:
    pf.init()
    with pytest.raises(Exception, match=r"pickle|lambda|local"):
        pf.save_checkpoint({"f": lambda: 0})
    assert [p for p in run.checkpoints.rglob("*") if p.is_file()] == []


def test_safetensors_are_written(run: Run) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    pf.init()
    pf.save_checkpoint({"w": torch.ones(2)}, "m.safetensors", format="safetensors")
    assert safetensors.load_file(pf.latest_checkpoint())["w"].tolist() == [1, 1]
    with pytest.raises(UsageError, match="dictionary of tensors"):
        pf.save_checkpoint([1], "m.safetensors", format="safetensors")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("format", "line"),
    [("torch", "pip install torch"), ("safetensors", "pip install safetensors torch")],
)
def test_missing_library_is_named_with_its_install_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, format: Any, line: str
) -> None:
    for name in ("torch", "safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    pf.init()
    with pytest.raises(MissingExtraError) as caught:
        pf.save_checkpoint({}, format=format)
    assert caught.value.hint == line


def test_fresh_start_has_no_checkpoint(run: Run) -> None:
    pf.init()
    assert pf.latest_checkpoint() is None


def test_restored_checkpoint_is_the_one_to_resume_from(
    job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored = job.checkpoints / "checkpoint.pt"
    restored.write_bytes(b"x")
    monkeypatch.setenv("PERIFLOW_RESTORED_CHECKPOINT", str(restored))
    monkeypatch.setenv("PROCESSED_ITERS", "10")
    pf.init()
    assert pf.latest_checkpoint() == restored
    (job.checkpoints / "newer").mkdir()
    (job.checkpoints / "newer" / "a").write_bytes(b"a")
    (job.checkpoints / "newer" / "b").write_bytes(b"b")
    pf.upload_checkpoint()
    assert pf.latest_checkpoint() == job.checkpoints / "newer"
    assert pf.current_step() == 10


RESUMING = textwrap.dedent("""
    import torch, periflow_sdk as pf
    pf.init(total_train_steps=6, local_log_name="log.jsonl")
    path = pf.latest_checkpoint()
    w = torch.load(path)["w"] if path else torch.tensor(0)
    for step in range(pf.current_step(), 6):
        with pf.train_step():
            w = w + 1
            pf.metric({"w": w})
            pf.save_checkpoint({"w": w})
        if step == 2 and path is None:
            raise SystemExit
    print(pf.current_step(), int(w))
""")


def test_the_same_script_resumes_on_a_laptop(local: Run) -> None:
    local.script(RESUMING)
    done = local.script(RESUMING)
    assert done.stdout.split() == ["6", "6"]
    log = (local.folder / "log.jsonl").read_text().splitlines()
    assert len(log) == 6 and '"step":6' in log[-1]


def test_without_a_folder_checkpoints_go_to_checkpoints(
    local: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CKPT_DIR")
    pf.init()
    pf.save_checkpoint({})
    assert pf.latest_checkpoint() == local.folder / "checkpoints" / "checkpoint.pt"


def test_every_local_rank_resumes_from_what_rank_0_saved(local: Run) -> None:
    code = (
        "import torch, periflow_sdk as pf; pf.init()\nwith pf.train_step(): pf.save_checkpoint({})"
    )
    ask = "import periflow_sdk as pf; pf.init(); print(pf.latest_checkpoint(), pf.current_step())"
    local.script(code, RANK="0")
    answer = local.script(ask, RANK="1").stdout.split()
    assert answer == [str(local.checkpoints / "checkpoint.pt"), "1"]


def test_latest_checkpoint_can_be_asked_before_init(local: Run) -> None:
    assert pf.latest_checkpoint() is None
    pf.init()
    with pf.train_step():
        pf.save_checkpoint({})
    pf.finish()
    assert pf.latest_checkpoint() == local.checkpoints / "checkpoint.pt"
    pf.init()
    assert pf.current_step() == 1


def test_restored_checkpoint_is_known_before_init(
    job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored = job.checkpoints / "checkpoint.pt"
    monkeypatch.setenv("PERIFLOW_RESTORED_CHECKPOINT", str(restored))
    restored.write_bytes(b"x")
    assert pf.latest_checkpoint() == restored


def test_deleted_or_damaged_notes_are_a_fresh_start(local: Run) -> None:
    pf.init()
    with pf.train_step():
        pf.save_checkpoint({})
    (note,) = (local.checkpoints / ".periflow").glob("latest*")
    for text in ("", "[]", '{"path": "../../etc/passwd", "step": 1}', '{"path": "x", "step": 1}'):
        note.write_text(text)
        assert pf.latest_checkpoint() is None
