"""latest_checkpoint answers with what is whole, or says why there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import periflow_sdk as pf
from periflow_sdk.agent.restored import note_restored
from periflow_sdk.errors import CheckpointError

torch: Any = pytest.importorskip("torch")

if TYPE_CHECKING:
    from conftest import Run


@pytest.fixture
def restored(job: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint that the agent has restored for this attempt."""
    path = job.checkpoints / "model.pt"
    torch.save({"w": torch.ones(1000)}, path)
    note_restored(job.checkpoints, job.run_dir)
    monkeypatch.setenv("PERIFLOW_RESTORED_CHECKPOINT", str(path))
    monkeypatch.setenv("PROCESSED_ITERS", "10")
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_restored_checkpoint_that_was_cut_off_is_never_taken_for_a_fresh_start(
    restored: Path,
) -> None:
    cut(restored)
    with pytest.raises(CheckpointError, match=r"model\.pt is cut off") as caught:
        pf.latest_checkpoint()
    assert caught.value.hint
    pf.init()
    with pytest.raises(CheckpointError):
        pf.latest_checkpoint()


def test_restored_checkpoint_that_is_gone_is_never_taken_for_a_fresh_start(
    restored: Path,
) -> None:
    restored.unlink()
    with pytest.raises(CheckpointError, match="not there any more"):
        pf.latest_checkpoint()


def test_restored_folder_that_lacks_a_file_is_refused(
    job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = job.checkpoints / "step-10"
    folder.mkdir()
    for name in ("a.bin", "b.bin"):
        (folder / name).write_bytes(b"x")
    note_restored(job.checkpoints, job.run_dir)
    monkeypatch.setenv("PERIFLOW_RESTORED_CHECKPOINT", str(folder))
    assert pf.latest_checkpoint() == folder
    (folder / "b.bin").unlink()
    with pytest.raises(CheckpointError, match=r"step-10 lacks b\.bin"):
        pf.latest_checkpoint()


def test_newer_file_in_the_place_of_the_restored_one_is_taken_if_it_is_whole(
    restored: Path,
) -> None:
    torch.save({"w": torch.zeros(2000)}, restored)
    assert pf.latest_checkpoint() == restored


def test_own_checkpoint_that_is_torn_falls_back_to_the_one_before(
    restored: Path, job: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    pf.init()
    for name in ("first.pt", "second.pt"):
        pf.save_checkpoint({"w": torch.ones(1000)}, name)
    assert pf.latest_checkpoint() == job.checkpoints / "second.pt"
    cut(job.checkpoints / "second.pt")
    assert pf.latest_checkpoint() == job.checkpoints / "first.pt"
    assert "second.pt is cut off" in capfd.readouterr().err
    (job.checkpoints / "first.pt").unlink()  # rotated away: no fault
    assert pf.latest_checkpoint() == restored


def test_on_a_laptop_a_torn_checkpoint_falls_back_with_its_step(local: Run) -> None:
    pf.init()
    for name in ("one.pt", "two.pt"):
        with pf.train_step():
            pf.save_checkpoint({"w": torch.ones(1000)}, name)
    pf.finish()
    cut(local.checkpoints / "two.pt")
    pf.init()
    assert pf.latest_checkpoint() == local.checkpoints / "one.pt"
    assert pf.current_step() == 1
    cut(local.checkpoints / "one.pt")
    with pytest.raises(CheckpointError, match=r"two\.pt is cut off; one\.pt is cut off"):
        pf.latest_checkpoint()


def test_cut_safetensors_are_seen(local: Run) -> None:
    pytest.importorskip("safetensors.torch")
    pf.init()
    pf.save_checkpoint({"w": torch.ones(1000)}, "m.safetensors", format="safetensors")
    path = pf.latest_checkpoint()
    assert path is not None
    cut(path)
    with pytest.raises(CheckpointError):
        pf.latest_checkpoint()
