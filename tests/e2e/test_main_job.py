"""The whole story on real data through the installed `pf`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "digits"


def _python(script: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLE / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_stranger_trains_a_real_model_and_takes_the_checkpoint_home(newcomer) -> None:
    data = newcomer.folder / "digits"
    _python("get_data.py", str(data))

    newcomer.sign_up()
    assert newcomer.json("whoami")["username"] == "ada"
    newcomer.pf("dataset", "upload", "-n", "digits", "-p", f"{data}/")
    assert "digits.csv.gz (57.5 kB)" in newcomer.pf("dataset", "view", "digits")

    template = EXAMPLE / "pf-template.yml"
    number = newcomer.json("job", "run", "-f", template, "-d", EXAMPLE)["number"]
    followed = newcomer.pf("job", "log", "-f", number)
    assert re.search(r"epoch 19  loss .* test accuracy 9\d\.", followed)

    job = newcomer.job(number)
    assert (job["status"], job["exit_code"]) == ("success", 0)
    assert job["step"] == job["total_steps"] == 20 * 23
    assert [c["status"] for c in job["checkpoints"]] == ["ready"] * 4
    assert {c["step"] for c in job["checkpoints"]} == {23 * epoch for epoch in (5, 10, 15, 20)}

    losses = newcomer.json("job", "metrics", "show", number, "--name", "loss", "--limit", "10000")
    plot = newcomer.pf("job", "metrics", "plot", number)
    assert len(losses) == 20 * 23
    assert "loss" in plot and len(plot.splitlines()) > 10

    target = newcomer.folder / "checkpoint"
    newcomer.pf("checkpoint", "download", "latest", "-d", target)
    verdict = _python("evaluate.py", str(target / "checkpoint.pt"), "--data", str(data))
    accuracy = float(re.search(r"([\d.]+)%", verdict).group(1))
    assert accuracy > 95
