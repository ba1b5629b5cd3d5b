"""The examples of frameworks, in this process: they learn, and what they save measures the same."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OWN_MODULES = ("model", "topic")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def script(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a script of an example as `python` would: what it prints."""

    def run(example: str, name: str, *words: object) -> str:
        for module in OWN_MODULES:
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(EXAMPLES / example)
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        capfd.readouterr()
        runpy.run_path(str(EXAMPLES / example / name), run_name="__main__")
        return capfd.readouterr().out

    return run


@pytest.mark.parametrize(
    ("example", "measure"), [("pth-lightning", "val_loss"), ("huggingface", "eval_accuracy")]
)
def test_example_learns_and_its_checkpoint_measures_as_it_did(
    job, tmp_path, script, monkeypatch, example, measure
) -> None:
    import torch

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = tmp_path / "data"
    try:
        script(example, "get_data.py", data)
    except SystemExit as missing:
        pytest.skip(str(missing))
    script(example, "main.py", "--data", data, "--save", job.checkpoints, "--epochs", 1)
    said = script(example, "evaluate.py", job.checkpoints, "--data", data)
    torch.set_num_threads(threads)

    losses = [(step, values["loss"]) for step, values in job.metrics() if "loss" in values]
    assert [step for step, _ in losses] == list(range(1, len(losses) + 1))
    first, last = (sum(loss for _, loss in some) / 10 for some in (losses[:10], losses[-10:]))
    assert last < 0.97 * first, losses
    measured = [values[measure] for _, values in job.metrics() if measure in values]
    number, percent = re.search(r": ([\d.]+)(%?)$", said).groups()
    assert float(number) / (100 if percent else 1) == pytest.approx(measured[-1], abs=1e-4)
