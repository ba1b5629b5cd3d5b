"""Whatever happens to the SDK's files, a training computes what it computes without the SDK."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE")

TRAINING = textwrap.dedent("""
    import os, random, resource, shutil, sys
    import numpy as np
    trouble = sys.argv[1]
    pf = None
    if trouble != "without":
        import periflow_sdk as pf
        pf.init(total_train_steps=1000)
    rng = np.random.default_rng(7)
    random.seed(7)
    weights = rng.normal(size=(16, 4))
    for step in range(1, 1001):
        if step == 50 and trouble == "disk full":
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
        if step == 50 and trouble == "folder deleted":
            shutil.rmtree(os.environ["PERIFLOW_RUN_DIR"])
        if pf:
            pf.start_step()
        batch = rng.normal(size=(8, 16)) * random.random()
        out = np.tanh(batch @ weights)
        weights -= 0.1 * batch.T @ (out * (1 - out**2))
        loss = float((out**2).mean())
        if pf:
            pf.metric({"loss": loss})
            if step % 100 == 0:
                np.save(os.environ["CKPT_DIR"] + "/w.npy", weights[:2])
                pf.upload_checkpoint()
            pf.end_step()
        print(loss.hex())
    if pf:
        status = pf.status()
        print(status.lost_records, status.error, sep="|", file=sys.__stdout__)
""")


def train(run: Run, trouble: str) -> tuple[list[str], str, str]:
    """The losses, what status() counted, and stderr."""
    code = f"import sys; sys.argv[1:] = [{trouble!r}]\n{TRAINING}"
    done = run.script(code)
    lines = done.stdout.splitlines()
    return lines[:1000], "".join(lines[1000:]), done.stderr


@pytest.mark.parametrize("trouble", ["no agent", "disk full", "folder deleted"])
def test_losses_are_bit_for_bit_those_without_the_sdk(job: Run, trouble: str) -> None:
    plain, _, _ = train(job, "without")
    losses, counted, told = train(job, trouble)
    assert losses == plain and len(plain) == 1000
    lost, _, error = counted.partition("|")
    if trouble == "no agent":
        assert (lost, error, told) == ("0", "None", "")
        assert len(job.records(kind="step")) == len(job.records(kind="metric")) == 1000
    else:
        assert int(lost) > 50 and error != "None"
        assert told.count("records are lost") == 1
