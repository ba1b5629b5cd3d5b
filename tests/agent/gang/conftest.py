"""Jobs on two simulated nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from warm_python import warm_python

FORKED = Path(__file__).parents[2] / "support/forked_ranks.py"
TORCHRUN = (
    "OMP_NUM_THREADS=1 {python} -m torch.distributed.run --nnodes $NUM_NODES --node-rank $NODE_RANK"
    " --nproc-per-node {ranks} --master-addr $MASTER_ADDR --master-port $MASTER_PORT"
    " {script} {options}"
)


def torchrun(script: Path, options: str = "", ranks: object = "$NPROC_PER_NODE") -> str:
    """The command of a node whose ranks are one group with those of the other nodes."""
    return TORCHRUN.format(python=warm_python(), ranks=ranks, script=script, options=options)


def forked(script: Path, options: str = "", ranks: int = 1) -> str:
    """The same by a launcher that loads torch once for all ranks of a node."""
    return f"OMP_NUM_THREADS=1 {warm_python()} {FORKED} {ranks} {script} {options}"


@pytest.fixture(name="torchrun", scope="session")
def _torchrun() -> Callable[..., str]:
    return torchrun


@pytest.fixture(name="forked", scope="session")
def _forked() -> Callable[..., str]:
    return forked


@pytest.fixture
def run_pair(run: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a command as a job on two nodes of one device: ``run_pair(command, …)``."""
    return lambda command, **options: run(
        command, **{"vm": "local-cpu-pair", "devices": 2, **options}
    )
