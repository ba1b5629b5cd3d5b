"""Ranks, forks and the processes of a job."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

import periflow_sdk as pf
from periflow_sdk import _control as word

if TYPE_CHECKING:
    from conftest import Run


def test_two_ranks_write_journals_of_their_own(job: Run) -> None:
    code = textwrap.dedent("""
        import os
        import periflow_sdk as pf
        pf.init(total_train_steps=500)
        for _ in range(500):
            with pf.train_step():
                pf.metric({"rank": int(os.environ["RANK"])})
    """)
    ranks = [
        subprocess.Popen([sys.executable, "-c", code], env=job.variables(RANK=r, WORLD_SIZE="2"))
        for r in ("0", "1")
    ]
    assert [process.wait(60) for process in ranks] == [0, 0]
    for rank in (0, 1):
        values = {r["m"]["rank"] for r in job.records(rank, "metric")}
        assert values == {rank} and len(job.records(rank, "step")) == 500
        assert job.records(rank, "init")[0]["world_size"] == 2
        assert job.word("progress", word.FINISHED, rank) == 500


def test_local_ranks_do_not_mix_their_logs(local: Run) -> None:
    code = "import periflow_sdk as pf; pf.init(local_log_name='log.jsonl'); pf.metric({'a': 1})"
    local.script(code, RANK="0", WORLD_SIZE="2")
    local.script(code, RANK="1", WORLD_SIZE="2")
    assert len((local.folder / "log.jsonl").read_text().splitlines()) == 1
    assert len((local.folder / "log.jsonl.rank1").read_text().splitlines()) == 1


def test_rank_comes_from_torch_where_the_environment_has_none(job: Run) -> None:
    pytest.importorskip("torch")
    done = job.script(
        "import torch.distributed as dist, periflow_sdk as pf\n"
        "store = dist.HashStore()\n"
        "dist.init_process_group('gloo', store=store, rank=0, world_size=1)\n"
        "dist.get_rank = lambda: 3\n"
        "pf.init(); print(pf.status().rank)"
    )
    assert done.stdout.strip() == "3" and job.segments(3)


def test_process_group_that_is_not_there_is_left_alone(job: Run) -> None:
    pytest.importorskip("torch")
    done = job.script(
        "import torch.distributed as dist, periflow_sdk as pf\n"
        "def refuse(*_, **__): raise AssertionError\n"
        "dist.get_rank = dist.get_world_size = dist.barrier = dist.all_reduce = refuse\n"
        "pf.init(total_train_steps=1)\n"
        "with pf.train_step(): pf.metric({'loss': 1.0})\n"
        "pf.upload_checkpoint(); pf.finish(); print(dist.is_initialized())"
    )
    assert done.stdout.strip() == "False"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_leaves_the_parents_run_alone(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    pf.init(total_train_steps=5, local_log_name=run.log_name)
    pf.start_step()
    child = os.fork()
    if child == 0:
        try:
            pf.metric({"child": 1})
            pf.end_step()
            pf.start_step()
            pf.upload_checkpoint()
            lost = pf.status().lost_records
            pf.finish()
            os._exit(0 if lost == (2 if run.mode == "job" else 1) else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    pf.metric({"parent": 1})
    pf.end_step()
    assert pf.current_step() == 1
    assert run.metrics() == [(1, {"parent": 1})]
    if run.mode == "job":
        assert run.word("progress", word.STARTED) == 1
        assert [r["s"] for r in run.records(kind="step")] == [1]
        assert run.records(kind="finish") == []
    assert "forked" in capfd.readouterr().err


def test_data_loader_workers_leave_the_run_alone(job: Run) -> None:
    pytest.importorskip("torch")
    code = textwrap.dedent("""
        import torch, periflow_sdk as pf
        class Data(torch.utils.data.Dataset):
            def __len__(self): return 8
            def __getitem__(self, i):
                pf.metric({"worker": i})
                return i
        pf.init()
        loader = torch.utils.data.DataLoader
        for _ in loader(Data(), num_workers=2, multiprocessing_context="fork"):
            with pf.train_step():
                pf.metric({"loss": 1.0})
    """)
    job.script(code)
    assert job.metrics() == [(i + 1, {"loss": 1.0}) for i in range(8)]
    assert job.records()[-1]["t"] == "finish"
    assert len(job.segments()) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_may_start_a_run_of_its_own(job: Run) -> None:
    pf.init()
    child = os.fork()
    if child == 0:
        try:
            os.environ["RANK"] = "1"
            pf.init()
            pf.metric({"child": 1})
            pf.finish()
            os._exit(0)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [r["m"] for r in job.records(1, "metric")] == [{"child": 1}]
    assert job.metrics() == []
