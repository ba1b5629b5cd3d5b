"""Ranks that are started again within an attempt go on from the newest whole checkpoint here."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from periflow_sdk.agent.restored import note_restored

if TYPE_CHECKING:
    from conftest import Run

# A rank that saves where it is told and then dies, or says what it goes on from.
RANK = textwrap.dedent("""
    import json, os, pathlib, time
    import periflow_sdk as pf

    def wait_for(names):
        while not all(os.path.exists(name) for name in names):
            time.sleep(0.005)

    plan = json.loads(os.environ["PLAN"])
    folder, rank = pathlib.Path(os.environ["CKPT_DIR"]), int(os.environ.get("RANK", "0"))
    if plan.get("asks_first"):
        pf.latest_checkpoint()
    pf.init(total_train_steps=100)
    path = pf.latest_checkpoint()
    begins = pf.current_step()
    print(json.dumps([path.name if path else None, begins]), flush=True)
    open(f"here-{rank}-{plan.get('launch')}", "w").close()
    wait_for(plan.get("waits_for", []))
    for step in range(begins + 1, plan.get("until", 0) + 1):
        with pf.train_step():
            pf.metric({"loss": step})
        if step in plan.get("saves", []):
            name = plan.get("name", "model.txt").format(step=step, rank=rank)
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"step {step}")
            pf.upload_checkpoint(folder / name)
    if plan.get("starts"):
        pf.start_step()
    if plan.get("spoils"):
        (folder / plan["spoils"]).write_text("half of a newer one")
    open(f"done-{rank}-{plan.get('launch')}", "w").close()
    wait_for(plan.get("stays_for", []))
    if not plan.get("finishes"):
        os._exit(1)
""")


class Launch:
    """Ranks that are started together; each waits after init() until all are there.

    Attributes:
        began: What each goes on from: (name, step).
    """

    launches = 0

    def __init__(self, job: Run, *plans: dict[str, Any], **variables: str) -> None:
        Launch.launches += 1
        self.job, self.variables, self.world = job, variables, len(plans)
        everybody = [f"here-{rank}-{self.launches}" for rank in range(len(plans))]
        self.processes = [
            self.start(rank, {"launch": self.launches, "waits_for": everybody, **plan})
            for rank, plan in enumerate(plans)
        ]

    def start(self, rank: int, plan: dict[str, Any]) -> subprocess.Popen[str]:
        names = {"PLAN": json.dumps(plan), **self.variables}
        if self.world > 1:
            names |= {"RANK": str(rank), "WORLD_SIZE": str(self.world)}
        return subprocess.Popen(
            [sys.executable, "-c", RANK],
            env=self.job.variables(**names),
            cwd=self.job.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> list[list[object]]:
        """What each rank went on from, once all have ended."""
        ends = [process.communicate(timeout=200) for process in self.processes]
        self.errors = "".join(err for _, err in ends)
        assert all(out for out, _ in ends), self.errors
        return [json.loads(out) for out, _ in ends]


@pytest.fixture
def launch(job: Run) -> Callable[..., list[list[object]]]:
    return lambda *plans, **variables: Launch(job, *plans, **variables).end()


@pytest.fixture
def rank(launch: Callable[..., list[list[object]]]) -> Callable[..., list[object]]:
    """Runs one process of the only rank; what it goes on from."""
    return lambda variables=None, **plan: launch(plan, **(variables or {}))[0]


def test_restarted_rank_goes_on_from_what_it_saved_last(job: Run, rank) -> None:
    assert rank(until=25, saves=[10, 20]) == [None, 0]
    assert rank(asks_first=True, until=27) == ["model.txt", 20]
    began = [(r["s"], r.get("restart", False)) for r in job.records(kind="init")]
    assert began == [(0, False), (20, True)]
    assert rank(until=33, saves=[30]) == ["model.txt", 20], "it died before it had saved"
    assert rank() == ["model.txt", 30]
    assert (job.checkpoints / "model.txt").read_text() == "step 30"


def test_first_process_goes_on_from_what_was_restored(job: Run, rank) -> None:
    restored = restore(job)
    assert rank(variables=restored, until=25, saves=[20]) == ["model.txt", 10]
    assert rank(variables=restored) == ["model.txt", 20], "newer than what was restored"


def restore(job: Run) -> dict[str, str]:
    path = job.checkpoints / "model.txt"
    path.write_text("step 10")
    note_restored(job.checkpoints, job.run_dir)
    return {"PERIFLOW_RESTORED_CHECKPOINT": str(path), "PROCESSED_ITERS": "10"}


def test_files_that_were_overwritten_since_are_passed_over(job: Run, rank) -> None:
    rank(until=25, saves=[10, 20], name="step-{step}.txt", spoils="step-20.txt")
    assert rank() == ["step-10.txt", 10]


def test_nothing_whole_is_never_a_fresh_start(job: Run, rank) -> None:
    restored = restore(job)
    rank(variables=restored, until=25, saves=[20], spoils="model.txt")
    done = job.script(RANK, check=False, PLAN="{}", **restored)
    assert done.returncode == 1 and "CheckpointError" in done.stderr
    assert "what was saved until step 20 has been overwritten" in done.stderr


def test_script_after_one_that_has_finished_is_no_restart(job: Run, rank) -> None:
    assert rank(until=25, saves=[20], finishes=True) == [None, 0]
    assert rank() == [None, 0]
    assert not any(record.get("restart") for record in job.records(kind="init"))


def test_process_beside_a_restarted_rank_is_no_restart(job: Run, rank) -> None:
    rank(until=25, saves=[20])
    main = Launch(job, {"stays_for": ["go"]})
    while not (job.folder / f"done-0-{main.launches}").exists():
        time.sleep(0.005)
    assert Launch(job, {}).end() == [[None, 0]]
    (job.folder / "go").touch()
    assert main.end() == [["model.txt", 20]]
    assert [r.get("restart", False) for r in job.records(kind="init")] == [False, True, False]


def test_second_run_of_a_process_is_no_restart(job: Run) -> None:
    code = "import periflow_sdk as pf\n" + textwrap.dedent("""
        for _ in range(2):
            pf.init()
            assert pf.latest_checkpoint() is None and pf.current_step() == 0
            with pf.train_step():
                open(os.environ["CKPT_DIR"] + "/a.txt", "w").write("1")
            pf.upload_checkpoint()
    """)
    job.script(f"import os\n{code}")


def test_all_ranks_go_on_from_what_the_first_of_them_found(job: Run, launch) -> None:
    launch({"until": 25, "saves": [20]}, {"until": 25})
    second = Launch(job, {"until": 30, "saves": [30], "waits_for": [], "stays_for": ["go"]}, {})
    late = second.processes.pop()
    late.kill()  # it comes when rank 0 has saved anew
    late.communicate()
    while not (job.folder / f"done-0-{second.launches}").exists():
        time.sleep(0.005)
    assert second.processes[0].poll() is None
    second.processes.append(second.start(1, {}))
    out, _ = second.processes.pop().communicate(timeout=200)
    (job.folder / "go").touch()
    assert [json.loads(out), *second.end()] == [["model.txt", 20]] * 2


def test_checkpoint_that_lacks_the_part_of_a_dead_rank_is_passed_over(launch) -> None:
    shards = {"name": "step-{step}/{rank}.txt"}
    launch(
        {"until": 21, "saves": [10, 20], **shards},
        {"until": 19, "saves": [10], "starts": True, **shards},
    )
    assert launch({}, {}) == [["step-10", 10]] * 2


def test_checkpoint_of_rank_0_alone_counts_when_the_others_died_in_its_step(launch) -> None:
    launch({"until": 20, "saves": [10, 20]}, {"until": 20})
    assert launch({}, {}) == [["model.txt", 20]] * 2, "it has all that the one of step 10 had"


def test_first_checkpoint_that_may_lack_a_part_is_told_of(job: Run, launch) -> None:
    launch({"until": 20, "saves": [20]}, {"until": 20})
    again = Launch(job, {}, {})
    assert again.end() == [[None, 0]] * 2
    assert again.errors.count("step 20 may lack a part") == 1


def test_ranks_of_several_nodes_go_on_from_what_was_restored(job: Run, rank) -> None:
    nodes = {"NUM_NODES": "2"}
    rank(until=25, saves=[20], variables=nodes)
    assert rank(variables=nodes) == [None, 0]
    assert [r.get("restart", False) for r in job.records(kind="init")] == [False, True]


def test_note_of_what_to_go_on_from_stays_in_the_run_directory(job: Run, rank) -> None:
    rank(until=25, saves=[20])
    rank()
    note = json.loads((job.run_dir / "resume.json").read_text())
    assert note["step"] == 20 and list(note["files"]) == [str(job.checkpoints / "model.txt")]
    assert Path(note["path"]).name == "model.txt"
