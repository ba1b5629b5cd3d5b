"""save_checkpoint leaves the state in memory and the worker's part writes what torch.load reads."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_until

import periflow_sdk as pf
from periflow_sdk import _memory_stage
from periflow_sdk.agent.memory import MemoryWriter

torch: Any = pytest.importorskip("torch")

if TYPE_CHECKING:
    from conftest import Run


@pytest.fixture
def writer(job: Run) -> Iterator[MemoryWriter]:
    """The worker's half, serving this process's states."""
    made = MemoryWriter(job.checkpoints, job.run_dir)
    made.start()
    until_served(job)
    yield made
    made.finish()


@pytest.fixture
def stopped_worker(job: Run) -> Iterator[None]:
    """A worker that lives and reads nothing."""
    import fcntl

    with (job.run_dir / "worker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def until_served(job: Run) -> None:
    stage = _memory_stage.MemoryStage(job.run_dir / "rank-0", job.run_dir / "worker.lock")
    wait_until(stage.is_served)


def waiting(job: Run) -> list[str]:
    return sorted(p.name for p in (job.run_dir / "rank-0").glob("memory-*"))


def states() -> dict[str, Any]:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    model[1].weight = torch.nn.Parameter(model[0].weight[:2])
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3, 8)).sum().backward()
    optimizer.step()
    big = torch.arange(24.0).reshape(4, 6)
    tied = torch.ones(3)
    dtypes = [
        torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8,
        torch.int16, torch.int32, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn,
        torch.uint16,
    ]  # fmt: skip
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "dtypes": {str(d): torch.ones(5).to(d) for d in dtypes},
        "views": [big.t(), big[1:3, ::2], big.expand(2, 4, 6)],
        "tied": {"a": tied, "b": tied, "view": tied[1:]},
        "empty": [torch.empty(0), torch.empty(3, 0), torch.tensor(7)],
        "plain": {"step": 3, "name": "größe", "lr": 1e-3, "none": None, "t": (1, [2.5, True])},
        "generator": torch.get_rng_state(),
        "sparse": torch.eye(3).to_sparse(),
    }


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.layout == torch.strided:
            assert one.stride() == other.stride()
            one, other = one.contiguous().view(-1), other.contiguous().view(-1)
            assert torch.equal(one.view(torch.uint8), other.view(torch.uint8))
        else:
            assert torch.equal(one.to_dense(), other.to_dense())
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert type(one) is type(other) and len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


@pytest.mark.parametrize("mmap", [False, True])
def test_written_file_loads_as_what_torch_save_writes(
    job: Run, writer: MemoryWriter, tmp_path: Path, mmap: bool
) -> None:
    state = states()
    torch.save(state, tmp_path / "plain.pt")
    pf.init()
    upload = pf.save_checkpoint(state)
    assert upload.error is None and pf.status().saves_by_training == 0
    assert len(waiting(job)) == 1
    path = pf.latest_checkpoint()
    assert path == job.checkpoints / "checkpoint.pt"
    ours = torch.load(path, weights_only=True, mmap=mmap)
    assert_same(torch.load(tmp_path / "plain.pt", weights_only=True), ours)
    tied = ours["tied"]
    assert tied["a"].data_ptr() == tied["b"].data_ptr()
    tied["a"][1] = 9
    assert tied["view"][0] == 9
    assert (job.checkpoints / ".periflow" / upload.id / "checkpoint.pt").samefile(path)


class Trap:
    """Whoever unpickles it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("unpickled"),)


def test_worker_writes_a_state_without_unpickling_it(job: Run, writer: MemoryWriter) -> None:
    pf.init()
    pf.save_checkpoint({"w": torch.ones(3), "trap": Trap()})
    path = pf.latest_checkpoint()
    assert path is not None and pf.status().saves_by_training == 0
    assert not (job.folder / "unpickled").exists()
    torch.load(path, weights_only=False)
    assert (job.folder / "unpickled").exists()


def test_worker_needs_no_torch() -> None:
    code = "import sys, periflow_sdk.agent.worker, periflow_sdk.snapshots; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "numpy"}.isdisjoint(done.stdout.split())


def test_state_is_as_it_was_at_the_call(job: Run, writer: MemoryWriter) -> None:
    pf.init()
    weights = torch.zeros(100_000)
    for step in range(20):
        weights.fill_(step)
        pf.save_checkpoint({"w": weights}, f"step-{step}/model.pt")
        weights.fill_(-1)
    pf.finish()
    for step in range(20):
        loaded = torch.load(job.checkpoints / f"step-{step}" / "model.pt")["w"]
        assert loaded.eq(step).all()
    names = list(job.checkpoints.rglob(".tmp*"))
    assert names == []


def test_killed_right_after_the_call_loses_nothing(job: Run, writer: MemoryWriter) -> None:
    code = textwrap.dedent("""
        import os, signal, torch, periflow_sdk as pf
        pf.init()
        with pf.train_step():
            upload = pf.save_checkpoint({"w": torch.full((1_000_000,), 7.0)}, "sub/last.pt")
            assert upload.error is None and pf.status().saves_by_training == 0
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert job.script(code, check=False).returncode == -9
    (record,) = job.records(kind="checkpoint")
    assert record["memory"] == record["files"][0]["mtime_ns"]
    wait_until(lambda: not writer.is_pending(0, record["memory"]))
    assert torch.load(job.checkpoints / "sub" / "last.pt")["w"].eq(7).all()
    wait_until(lambda: waiting(job) == [])  # the memory of the dead is given back


def test_killed_while_copying_leaves_the_file_before(job: Run, writer: MemoryWriter) -> None:
    code = textwrap.dedent("""
        import os, signal, torch, periflow_sdk as pf
        from periflow_sdk import _skeleton
        pf.init()
        pf.save_checkpoint({"w": torch.tensor(1)})
        _skeleton.copy_storages = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
        pf.save_checkpoint({"w": torch.tensor(2)})
    """)
    assert job.script(code, check=False).returncode == -9
    wait_until(lambda: waiting(job) == [])
    assert torch.load(job.checkpoints / "checkpoint.pt")["w"] == 1
    assert len(job.records(kind="checkpoint")) == 1


def test_training_writes_itself_while_both_memories_are_being_read(
    job: Run, stopped_worker: None
) -> None:
    pf.init()
    uploads = [pf.save_checkpoint({"w": torch.tensor(n)}) for n in range(3)]
    assert [u.error for u in uploads] == [None] * 3
    assert pf.status().saves_by_training == 1
    assert torch.load(job.checkpoints / "checkpoint.pt")["w"] == 2
    # The worker goes on: older states are staged, and none replaces the newer file.
    writer = MemoryWriter(job.checkpoints, job.run_dir)
    writer.finish()
    assert torch.load(job.checkpoints / "checkpoint.pt")["w"] == 2
    for n, upload in enumerate(uploads):
        staged = job.checkpoints / ".periflow" / upload.id / "checkpoint.pt"
        assert torch.load(staged)["w"] == n


def test_memory_without_room_is_not_used(
    job: Run, writer: MemoryWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_memory_stage, "free_bytes", lambda folder: 1_000_000)
    pf.init()
    assert pf.save_checkpoint({"w": torch.ones(200_000)}).error is None
    assert pf.status().saves_by_training == 1 and waiting(job) == []
    assert torch.load(job.checkpoints / "checkpoint.pt")["w"].sum() == 200_000


def test_memory_that_is_full_when_it_is_reserved_is_not_used(
    job: Run, writer: MemoryWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    pf.init()
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        assert pf.save_checkpoint({"w": torch.ones(2)}).error is None
    assert pf.status().saves_by_training == 1
    assert [p.name for p in (job.run_dir / "rank-0").glob("*memory*")] == []
    assert torch.load(job.checkpoints / "checkpoint.pt")["w"].sum() == 2


def test_state_that_grows_gets_a_larger_memory(job: Run, writer: MemoryWriter) -> None:
    pf.init()
    for n in (10, 100_000, 1_000_000, 10):
        pf.save_checkpoint({"w": torch.ones(n)})
        assert torch.load(pf.latest_checkpoint())["w"].numel() == n
    assert pf.status().saves_by_training == 0


def test_without_a_worker_training_writes_itself(job: Run) -> None:
    (job.run_dir / "worker.lock").touch()  # that of a worker that has died
    pf.init()
    pf.save_checkpoint({"w": torch.tensor(1)})
    assert (job.checkpoints / "checkpoint.pt").exists() and waiting(job) == []
    assert pf.status().saves_by_training == 0


def test_saved_file_that_appears_later_is_not_taken_for_new(job: Run, writer: MemoryWriter) -> None:
    pf.init()
    pf.save_checkpoint({"w": torch.tensor(1)})
    assert pf.latest_checkpoint() is not None
    assert pf.upload_checkpoint().size == 0
    torch.save({"w": torch.tensor(2)}, job.checkpoints / "checkpoint.pt")
    assert pf.upload_checkpoint().size > 0


def test_errors_of_the_state_are_the_callers(job: Run, writer: MemoryWriter) -> None:
    pf.init()
    with pytest.raises(Exception, match=r"pickle|lambda|local"):
        pf.save_checkpoint({"f": lambda: 0})
    data = torch.ones(4)
    with pytest.raises(RuntimeError, match="different types"):
        pf.save_checkpoint({"a": data, "b": data.view(torch.int32)})
    assert job.records(kind="checkpoint") == []
    assert list((job.checkpoints / ".periflow").iterdir()) == []


def test_checkpoint_that_cannot_be_recorded_is_taken_back(job: Run, stopped_worker: None) -> None:
    pf.init()
    pf._training._run.log.file.abandon("the disk is gone")  # type: ignore[union-attr]
    upload = pf.save_checkpoint({"w": torch.ones(2)})
    assert upload.error == "the journal cannot be written"
    MemoryWriter(job.checkpoints, job.run_dir).finish()
    assert [p for p in job.checkpoints.rglob("*") if p.is_file()] == []


def test_linked_folder_is_written_by_training(job: Run, writer: MemoryWriter) -> None:
    elsewhere = job.folder / "elsewhere"
    elsewhere.mkdir()
    (job.checkpoints / "sub").symlink_to(elsewhere)
    pf.init()
    pf.save_checkpoint({"w": torch.ones(2)}, "sub/model.pt")
    assert (elsewhere / "model.pt").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_state_on_a_gpu_is_as_it_was_at_the_call_and_loads_on_a_cpu(
    job: Run, writer: MemoryWriter
) -> None:
    pf.init()
    weights = torch.full((10_000_000,), 1.0, device="cuda")
    for value in (1.0, 2.0):
        weights.fill_(value)
        pf.save_checkpoint({"w": weights})
        weights.fill_(-1)
        path = pf.latest_checkpoint()
        assert torch.load(path, map_location="cpu")["w"].eq(value).all()
        assert torch.load(path)["w"].device.type == "cuda"
