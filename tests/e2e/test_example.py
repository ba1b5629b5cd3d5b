"""The examples of frameworks as a stranger runs them, and their node is taken once."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from warm_python import warm_python

ROOT = Path(__file__).resolve().parents[2]


class Example(NamedTuple):
    """What its README says to type, and what comes out."""

    name: str
    dataset: str
    get_data: tuple[str, ...]
    evaluate: tuple[str, ...]
    """The words after `evaluate.py`; {checkpoint} is the downloaded folder, {data} the dataset."""
    measure: str
    """The metric that `evaluate.py` prints again, and that training improves."""


CIFAR = Example(
    "cifar",
    "my-cifar-100",
    ("--digits",),
    ("{checkpoint}/checkpoint.pt", "--data-path", "{data}"),
    "test_accuracy",
)
LIGHTNING = Example("pth-lightning", "mnist", (), ("{checkpoint}", "--data", "{data}"), "val_loss")
HUGGINGFACE = Example(
    "huggingface", "topics", (), ("{checkpoint}", "--data", "{data}"), "eval_accuracy"
)


class Run:
    """An example as a job of the stranger."""

    def __init__(self, stranger: Any, example: Example) -> None:
        self.stranger = stranger
        self.example = example
        self.folder = ROOT / "examples" / example.name
        self.data = stranger.folder / example.dataset
        made = self.start("get_data.py", self.data, *example.get_data)
        if made.returncode != 0:
            pytest.skip(made.stderr.strip())
        stranger.pf("dataset", "upload", "-n", example.dataset, "-p", f"{self.data}/")
        template = self.folder / "pf-template.yml"
        job = stranger.json("job", "run", "-f", template, "-d", self.folder)
        self.number = job["number"]

    def start(self, script: str, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["python", str(self.folder / script), *map(str, words)],
            capture_output=True,
            text=True,
            env={**self.stranger.environment, "OMP_NUM_THREADS": "1"},
            check=False,
        )

    def preempt_after(self, share: float) -> None:
        """Take the node once this share of the steps is done."""
        project = self.stranger.project_id()
        with self.stranger.client() as client:

            def is_there() -> bool:
                job = client.job(project, self.number)
                assert job.status in ("waiting", "allocating", "preparing", "running"), self.log()
                return bool(job.step and job.step >= share * job.total_steps)

            self.stranger.wait_until(is_there, 300, self.log)
            client.preempt_job(project, self.number)

    def end(self) -> Any:
        """The job when it has ended."""
        project = self.stranger.project_id()
        with self.stranger.client() as client:
            self.stranger.wait_until(
                lambda: client.job(project, self.number).status in ("success", "failed"),
                600,
                self.log,
            )
        return self.stranger.job(self.number)

    def log(self) -> str:
        return "\n".join(self.stranger.log(self.number))

    def metric(self, name: str) -> list[tuple[int, float]]:
        words = ("job", "metrics", "show", self.number, "--name", name, "--limit", 100_000)
        return [(point["step"], point["value"]) for point in self.stranger.json(*words)]

    def evaluate(self) -> float:
        """Take the newest checkpoint home, load it and measure it."""
        target = self.stranger.folder / f"{self.example.name}-checkpoint"
        self.stranger.pf("checkpoint", "download", "latest", "-d", target)
        words = [w.format(checkpoint=target, data=self.data) for w in self.example.evaluate]
        done = self.start("evaluate.py", *words)
        assert done.returncode == 0, done.stderr
        number, percent = re.search(r": ([\d.]+)(%?)$", done.stdout).groups()
        return float(number) / (100 if percent else 1)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "example", [CIFAR, LIGHTNING, HUGGINGFACE], ids=lambda example: example.name
)
@pytest.mark.parametrize("python", ["forked", pytest.param("started", marks=pytest.mark.soak)])
def test_example_goes_on_where_it_was_preempted(
    settled, monkeypatch, example: Example, python: str
) -> None:
    if python == "forked":  # each example starts eight or so, and the frameworks load for long
        path = f"{Path(warm_python()).parent}:{settled.environment['PATH']}"
        monkeypatch.setitem(settled.environment, "PATH", path)
    run = Run(settled, example)
    run.preempt_after(0.2)
    job = run.end()
    assert [a["status"] for a in job["attempts"]] == ["preempted", "success"], run.log()

    (emergency,) = [c for c in job["checkpoints"] if c["save_type"] == "EMERGENCY"]
    stopped_at, total = emergency["step"], job["total_steps"]
    assert job["attempts"][0]["reason"].endswith(f"every rank stopped at step {stopped_at}")
    losses = run.metric("loss")
    assert [step for step, _ in losses] == list(range(1, total + 1))

    values = [value for _, value in losses]
    before, after = (mean(values[s : s + 10]) for s in (stopped_at - 10, stopped_at))
    learned = mean(values[:10]) - mean(values[-10:])
    assert learned > 0.2 * mean(values[:10]), values
    assert abs(after - before) < learned / 3, values

    measured = [value for _, value in run.metric(example.measure)]
    assert run.evaluate() == pytest.approx(measured[-1], abs=1e-4)
    is_better = (
        measured[-1] < measured[0] if "loss" in example.measure else measured[-1] > measured[0]
    )
    assert is_better, measured


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
