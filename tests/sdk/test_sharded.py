"""Sharded checkpoints: written while training goes on, whole, and loaded by any number of ranks."""

from __future__ import annotations

import json
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from warm_python import warm_python

import periflow_sdk as pf
from periflow_sdk.errors import CheckpointError, UsageError

torch: Any = pytest.importorskip("torch")

FORKED = Path(__file__).parents[1] / "support/forked_ranks.py"

if TYPE_CHECKING:
    from conftest import Run

PRELUDE = textwrap.dedent("""
    import json, os, time, torch, torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor
    import periflow_sdk as pf

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method="file://" + os.environ["STORE"],
                            rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))

    def sharded(values):
        return distribute_tensor(values, mesh, [Shard(0)])
""")

SAVING = PRELUDE + textwrap.dedent("""
    weights = sharded(torch.zeros(6, 2))
    pf.init(total_train_steps=6)
    for number in range(6):
        with pf.train_step():
            weights.to_local().add_(1)
        if number == 3:
            pf.save_checkpoint({"w": weights}, "sharded")
    pf.finish()
    dist.destroy_process_group()
""")

SAVING_FSDP = PRELUDE + textwrap.dedent("""
    import torch._dynamo  # as optimizers do, in each rank
    import torch.distributed.checkpoint.state_dict as sd
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3))
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    pf.init(total_train_steps=4)
    for number in range(4):
        with pf.train_step():
            optimizer.zero_grad()
            model(torch.randn(4, 6)).square().mean().backward()
            optimizer.step()
        if number == 1:
            weights, moments = sd.get_state_dict(model, optimizer)
            pf.save_checkpoint({"model": weights, "optimizer": moments}, "sharded")
            saved = {name: p.full_tensor().tolist() for name, p in model.named_parameters()}
    pf.finish()
    if rank == 0:
        print(json.dumps(saved))
    dist.destroy_process_group()
""")

LOADING = PRELUDE + textwrap.dedent("""
    import torch._dynamo  # as dcp.load() does, in each rank
    shapes = {"0.weight": (8, 6), "0.bias": (8,), "1.weight": (3, 8), "1.bias": (3,)}
    state = {"model": {name: sharded(torch.zeros(shape)) for name, shape in shapes.items()}}
    dcp.load(state, checkpoint_id=pf.latest_checkpoint())
    pf.init(total_train_steps=4)
    assert pf.current_step() == 2, pf.current_step()
    loaded = {name: p.full_tensor().tolist() for name, p in state["model"].items()}
    if rank == 0:
        print(json.dumps(loaded))
    pf.finish()
    dist.destroy_process_group()
""")


def start(run: Run, code: str, ranks: int, **more: str) -> list[subprocess.Popen[str]]:
    """Ranks as processes that meet in a file."""
    store = run.folder / f"store-{time.monotonic_ns()}"
    more |= {"STORE": str(store), "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [warm_python(), "-W", "error::UserWarning:periflow_sdk", "-c", code],
            env=run.variables(RANK=str(rank), **more),
            cwd=run.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(ranks)
    ]


def run_ranks(run: Run, code: str, ranks: int) -> str:
    """What rank 0 printed, once all have ended well; ranks are forks of one process."""
    script = run.folder / "rank.py"
    script.write_text(code)
    store = run.folder / f"store-{time.monotonic_ns()}"
    done = subprocess.run(
        [warm_python(), "-W", "error::UserWarning:periflow_sdk", FORKED, str(ranks), script],
        env=run.variables(STORE=str(store), OMP_NUM_THREADS="1"),
        cwd=run.folder,
        text=True,
        capture_output=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_ranks_save_and_one_or_four_go_on(local: Run) -> None:
    saved = json.loads(run_ranks(local, SAVING_FSDP, 2))
    names = sorted(path.name for path in (local.checkpoints / "sharded").iterdir())
    assert names == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    staging = local.checkpoints / ".periflow"
    assert [path.name for path in staging.iterdir()] == ["latest-rank0.json"]
    weights = {name: torch.zeros_like(torch.tensor(values)) for name, values in saved.items()}
    alone = load(local.checkpoints / "sharded", {"model": weights})["model"]
    assert {name: values.tolist() for name, values in alone.items()} == saved
    assert json.loads(run_ranks(local, LOADING, 4)) == saved


def test_each_rank_of_a_job_stages_what_it_wrote_and_the_parts_make_the_whole(job: Run) -> None:
    run_ranks(job, SAVING, 2)
    parts = {}
    for rank in (0, 1):
        announced, written = job.records(rank, "checkpoint")
        assert announced["files"] == [] and announced["id"] == written["id"]
        assert (announced["s"], written["s"], written["ranks"]) == (4, 4, 2)
        for file in written["files"]:
            staged = job.checkpoints / ".periflow" / written["id"] / file["path"]
            assert staged.stat().st_size == file["size"]
            parts[file["path"]] = staged.read_bytes()
        kinds = [record["t"] for record in job.records(rank)]
        assert kinds.index("finish") > len(kinds) - 1 - kinds[::-1].index("checkpoint")
    visible = {
        f"sharded/{path.name}": path.read_bytes()
        for path in (job.checkpoints / "sharded").iterdir()
    }
    assert parts == visible and set(parts) >= {"sharded/.metadata", "sharded/__1_0.distcp"}


SLOW = textwrap.dedent("""
    import torch.distributed.checkpoint.filesystem as fs
    write = fs.FileSystemWriter.write_data
    def slow(self, *args):
        while not os.path.exists(os.environ["GATE"]):
            time.sleep(0.01)
        return write(self, *args)
    fs.FileSystemWriter.write_data = slow
""")


def test_training_goes_on_while_it_is_written_and_a_kill_publishes_nothing(job: Run) -> None:
    code = (
        PRELUDE
        + SLOW
        + textwrap.dedent("""
        weights = sharded(torch.zeros(6))
        pf.init()
        with pf.train_step():
            pass
        upload = pf.save_checkpoint({"w": weights}, "sharded")
        for number in range(5):
            with pf.train_step():
                weights.to_local().add_(1)
        assert not upload.done and upload.size == 0
        print("trained", flush=True)
        time.sleep(100)
    """)
    )
    ranks = start(job, code, 2, GATE=str(job.folder / "gate"))
    try:
        for process in ranks:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "trained\n", process.communicate()[1][-3000:]
    finally:
        for process in ranks:
            process.kill()
            process.communicate()
    for rank in (0, 1):
        assert not any(record["files"] for record in job.records(rank, "checkpoint"))
        assert len(job.records(rank, "step")) == 6
    assert not (job.checkpoints / "sharded").exists()


def test_a_state_is_copied_before_the_call_returns(run: Run) -> None:
    code = SLOW + textwrap.dedent("""
        import threading
        pf.init()
        weights = torch.ones(1000)
        with pf.train_step():
            pass
        pf.save_checkpoint({"w": weights, "epoch": 3}, "sharded", format="dcp")
        weights.zero_()
        open(os.environ["GATE"], "w").close()
        pf.finish()
    """)
    run.script("import os, time, torch, periflow_sdk as pf\n" + code, GATE=str(run.folder / "gate"))
    state = load(run.checkpoints / "sharded", {"w": torch.zeros(1000), "epoch": 0})
    assert state["w"].sum() == 1000 and state["epoch"] == 3


def load(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    import torch.distributed.checkpoint as dcp

    dcp.load(state, checkpoint_id=folder, no_dist=True)
    return state


@pytest.mark.filterwarnings("ignore")
def test_saving_under_the_same_name_again_replaces_the_whole_folder(run: Run) -> None:
    pf.init()
    for number in range(3):
        with pf.train_step():
            upload = pf.save_checkpoint({"w": torch.full((4,), number)}, "sharded", format="dcp")
    if run.mode == "job":
        end = time.monotonic() + 90
        while not upload.size and time.monotonic() < end:
            time.sleep(0.01)
        assert pf.upload_checkpoint().size == 0  # what was saved is not taken for new
    pf.finish()
    assert upload.error is None
    assert load(run.checkpoints / "sharded", {"w": torch.zeros(4).long()})["w"].tolist() == [2] * 4
    pf.init()
    assert pf.latest_checkpoint() == (run.checkpoints / "sharded" if run.mode == "local" else None)
    if run.mode == "job":
        first, second, third = [r for r in job_parts(run) if r["files"]]
        assert (first["s"], second["s"], third["s"]) == (1, 2, 3)
        staged = run.checkpoints / ".periflow" / first["id"] / "sharded"
        assert load(staged, {"w": torch.ones(4).long()})["w"].tolist() == [0] * 4


def job_parts(run: Run) -> list[dict[str, Any]]:
    return run.records(kind="checkpoint")


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_is_told_and_fails_the_part_only(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch.distributed.checkpoint import FileSystemWriter

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    pf.init()
    with pf.train_step():
        pass
    monkeypatch.setattr(FileSystemWriter, "write_data", full)
    upload = pf.save_checkpoint({"w": torch.ones(2)}, "sharded", format="dcp")
    pf.finish()
    assert upload.error == "No space left on device" and not upload.done
    assert "No space left on device" in capsys.readouterr().err
    assert not (run.checkpoints / "sharded").exists()
    if run.mode == "job":
        announced, failed = job_parts(run)
        assert announced["files"] == failed["files"] == []
        assert failed["failure"] == "No space left on device"


def test_an_emergency_save_is_on_the_disk_when_the_call_returns(job: Run) -> None:
    from periflow_sdk import _control as word

    pf.init()
    pf.start_step()
    job.tell(word.EMERGENCY, 1)
    job.tell(word.COMMITTED, 1)
    assert pf.is_emergency_save()
    upload = pf.save_checkpoint({"w": torch.ones(2)}, "sharded", format="dcp")
    assert upload.size > 0
    announced, written = job_parts(job)
    assert announced["save"] == written["save"] == "EMERGENCY" and written["files"]


def test_what_is_no_dictionary_is_refused(run: Run) -> None:
    pf.init()
    with pytest.raises(UsageError, match="takes a dictionary"):
        pf.save_checkpoint([1], "sharded", format="dcp")


def without_metadata(folder: Path) -> None:
    (folder / ".metadata").unlink()


def without_data(folder: Path) -> None:
    (folder / "__0_0.distcp").unlink()


def cut_metadata(folder: Path) -> None:
    path = folder / ".metadata"
    path.write_bytes(path.read_bytes()[:-1])


def cut_data(folder: Path) -> None:
    path = folder / "__0_0.distcp"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", [without_metadata, without_data, cut_metadata, cut_data])
def test_damaged_folder_is_passed_over_for_the_one_before(
    run: Run, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    pf.init()
    for name in ("one", "two"):
        with pf.train_step():
            pf.save_checkpoint({"w": torch.ones(1000), "deep": {"n": 3}}, name, format="dcp")
    if run.mode == "local":
        pf.finish()
        pf.init()
    one, two = run.checkpoints / "one", run.checkpoints / "two"
    end = time.monotonic() + 90
    while pf.latest_checkpoint() != two and time.monotonic() < end:
        time.sleep(0.01)
    assert pf.latest_checkpoint() == two
    damage(two)
    assert pf.latest_checkpoint() == one
    assert "one is resumed from instead" in capfd.readouterr().err
    damage(one)
    with pytest.raises(CheckpointError):
        pf.latest_checkpoint()
