"""Jobs that are preempted and stopped: real ranks, through the installed `pf`."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from warm_python import warm_python

FOLDER = Path(__file__).parent / "preempted_job"
FORKED_RANKS = Path(__file__).parents[1] / "support/forked_ranks.py"
TORCHRUN = (
    "OMP_NUM_THREADS=1 {python} -m torch.distributed.run --standalone"
    " --nproc-per-node {ranks} {script} {options}"
)


def coupled(ranks: int = 2, options: str = "") -> str:
    script = "/workspace/preempted_job/coupled.py"
    options += " --hurry $HURRY"
    return TORCHRUN.format(python=warm_python(), ranks=ranks, script=script, options=options)


def uncoupled(ranks: int = 2, options: str = "") -> str:
    script = f"python /workspace/preempted_job/uncoupled.py {options} --hurry $HURRY"
    starts = " ".join(f"RANK={n} WORLD_SIZE={ranks} {script} &" for n in range(ranks))
    return f"{starts} code=0; for job in $(jobs -p); do wait $job || code=$?; done; exit $code"


class Run:
    """A job of some ranks, as `pf` shows it."""

    def __init__(self, stranger: Any, command: str, ranks: int = 2, extra: str = "") -> None:
        self.stranger = stranger
        self.ranks = ranks
        self.hurry = stranger.folder / "hurry"
        template = stranger.folder / f"job-{random.getrandbits(40):x}.yml"
        template.write_text(
            f"vm: local-cpu\nnum_devices: {ranks}\njob_setting:\n  type: custom\n  docker:\n"
            f"    image: none\n    command: {json.dumps(command)}\nenv:\n  HURRY: {self.hurry}\n"
            f"checkpoint:\n  output_checkpoint_dir: /workspace/ckpt\n{extra}"
        )
        self.number = stranger.json("job", "run", "-f", template, "-d", FOLDER)["number"]

    def pf(self, *words: object) -> None:
        self.stranger.pf("job", *words, self.number)

    def view(self) -> Any:
        return self.stranger.job(self.number)

    def log(self) -> list[str]:
        return self.stranger.output(self.number)

    def wait_for_steps(self, steps: int, attempt: int = 1) -> None:
        """Wait until an attempt has done so many steps of its own."""

        def are_done() -> bool:
            if any(len(self.begun(rank)) < attempt for rank in range(self.ranks)):
                return False
            return f"did {self.begun()[-1] + steps}" in self.log()

        self.stranger.wait_until(are_done, 90, lambda: f"{self.view()}\n{self.log()}")

    def begun(self, rank: int = 0) -> list[int]:
        """The steps at which the attempts began, as a rank prints them."""
        found = (re.match(rf"rank {rank} pid .* at (\d+)$", line) for line in self.log())
        return [int(match[1]) for match in found if match]

    def pid(self, rank: int) -> int:
        """The process of a rank in the newest attempt."""
        found = [
            m for line in self.log() if (m := re.match(rf"rank {rank} pid (\d+) begins", line))
        ]
        return int(found[-1][1])

    def steps(self, word: str) -> list[int]:
        """The steps at which ranks say that they save, or have left."""
        return [
            int(m[1]) for line in self.log() if (m := re.search(rf"{word} at step (\d+)", line))
        ]

    def end(self, attempt: int = 1) -> Any:
        """The job once it has ended; steps take no time once this attempt has begun."""
        self.stranger.wait_until(
            lambda: len(self.begun()) >= attempt, 60, lambda: f"{self.view()}\n{self.log()}"
        )
        self.hurry.touch()
        return self.stranger.wait_for_job(self.number)

    def metric(self, name: str) -> list[tuple[int, float]]:
        words = ("job", "metrics", "show", self.number, "--name", name, "--limit", 100_000)
        return sorted((point["step"], point["value"]) for point in self.stranger.json(*words))


def statuses(job: Any) -> list[str]:
    return [attempt["status"] for attempt in job["attempts"]]


def values(steps: int, rank: int = 0) -> list[tuple[int, float]]:
    """What an undisturbed uncoupled rank reports."""
    value, found = rank, []
    for step in range(1, steps + 1):
        value = (1103515245 * value + 12345) % 2**31
        found.append((step, float(value)))
    return found


def losses(folder: Path, ranks: int = 2, options: str = "") -> list[tuple[int, float]]:
    """The losses of an undisturbed run outside a job."""
    log = folder / "undisturbed.jsonl"
    words = f"{options} --seconds 0 --skew 0 --record {log}".split()
    subprocess.run(
        [warm_python(), FORKED_RANKS, str(ranks), FOLDER / "coupled.py", *words],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CKPT_DIR": str(folder / "undisturbed")},
        capture_output=True,
    )
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [(record["step"], record["loss"]) for record in records]


def terminate(run: Run, pid: Callable[[], int]) -> None:
    """A SIGTERM to the process, or to the one in its place if it has just ended."""

    def is_sent() -> bool:
        try:
            os.kill(pid(), signal.SIGTERM)
        except ProcessLookupError:
            return False
        return True

    run.stranger.wait_until(is_sent, 60, lambda: f"{run.view()}\n{run.log()}")


def preempt(run: Run, way: str) -> None:
    """Tell the node, in one of three ways, that it will be taken."""
    if way == "pf":
        run.pf("preempt")
    elif way == "agent":
        terminate(run, lambda: run.stranger.agent_pid(run.number))
    else:
        terminate(run, lambda: run.pid(1))


def test_coupled_ranks_lose_and_repeat_no_step_in_two_preemptions(stranger) -> None:
    expected = losses(stranger.folder)
    run = Run(stranger, coupled())
    run.wait_for_steps(20)
    preempt(run, "pf")
    run.wait_for_steps(5, attempt=2)
    preempt(run, "rank")
    job = run.end(attempt=3)
    assert statuses(job) == ["preempted", "preempted", "success"], job
    assert run.metric("loss") == expected
    first, second = run.begun()[1:]
    assert run.steps("saves") == run.steps("left") == [first, first, second, second]
    emergencies = [c["step"] for c in job["checkpoints"] if c["save_type"] == "EMERGENCY"]
    assert sorted(emergencies) == [first, second]
    view = stranger.pf("job", "view", run.number)
    assert f"every rank stopped at step {second}" in view
    assert "after the notice" in view


@pytest.mark.parametrize("way", ["pf", "agent", "rank"])
def test_uncoupled_ranks_go_on_where_they_saved(stranger, way) -> None:
    run = Run(stranger, uncoupled())
    run.wait_for_steps(10)
    preempt(run, way)
    job = run.end(attempt=2)
    assert statuses(job) == ["preempted", "success"], job
    assert len(set(run.steps("saves"))) == 1
    assert run.metric("value") == values(400)
    assert job["steps_not_durable"] == 400 - run.steps("saves")[0]
    assert job["notice_to_durable_seconds"] < 30


def test_stop_saves_at_one_step_and_does_not_start_again(stranger) -> None:
    run = Run(stranger, coupled(options="--steps 100000"))
    run.wait_for_steps(10)
    run.pf("stop", "-y")
    job = run.end()
    assert (job["status"], statuses(job)) == ("stopped", ["stopped"])
    (saved,) = [c for c in job["checkpoints"] if c["save_type"] == "EMERGENCY"]
    assert saved["status"] == "ready"
    assert run.steps("left") == [saved["step"]] * 2


def test_framework_that_swallows_the_signal_and_leaves_half_way_has_failed(stranger) -> None:
    run = Run(stranger, uncoupled(ranks=1, options="--swallow"), ranks=1)
    run.wait_for_steps(10)
    os.kill(run.pid(0), signal.SIGTERM)
    job = run.stranger.wait_for_job(run.number)
    assert job["status"] == "failed"
    assert re.fullmatch(r"exited at step \d+ of 400", job["reason"])


@pytest.mark.soak
def test_rank_that_raises_under_torchrun_is_a_failed_job(stranger) -> None:
    run = Run(stranger, coupled(options="--fail-at 5"))
    job = run.end()
    assert (job["status"], job["exit_code"]) == ("failed", 1)
    assert len(job["attempts"]) == 1


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_twenty_preemptions_at_random_moments_change_no_loss(stranger) -> None:
    options = "--steps 4000"  # not all done before the last preemption, however slow `pf` is
    expected = losses(stranger.folder, options=options)
    run = Run(stranger, coupled(options=f"{options} --seconds 0.05"))
    moments = random.Random(20)
    for attempt in range(1, 21):
        run.wait_for_steps(moments.randint(1, 40), attempt)
        preempt(run, moments.choice(["pf", "agent", "rank"]))
    job = run.end(attempt=21)
    assert statuses(job) == ["preempted"] * 20 + ["success"], job
    assert run.metric("loss") == expected


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(
    "options",
    ["", "--skew 0.6", "--slow-rank 1", "--evaluate", "--accumulate 4", "--ahead"],
)
def test_ranks_agree_however_they_are_coupled(stranger, ranks, options) -> None:
    vms = {vm["vm"]: vm["quota"] for vm in stranger.json("vm", "list")}
    expected = losses(stranger.folder, ranks, options)
    run = Run(stranger, coupled(ranks, options), min(ranks, vms["local-cpu"]))
    run.wait_for_steps(15)
    preempt(run, "pf")
    job = run.end(attempt=2)
    assert statuses(job) == ["preempted", "success"], job
    assert len(set(run.steps("saves"))) == 1 and len(run.steps("left")) == ranks
    assert run.metric("loss") == expected
