"""What is asked of GPUs, with a stand-in for NVIDIA's library.

There is no GPU here: these tests show what the agent makes of the library's answers and refusals.
That a real driver answers so is shown by the test marked `gpu`, where there is one.
"""

from __future__ import annotations

import logging
import os
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from periflow_sdk.agent import gpu
from periflow_sdk.agent.gpu import Gpus
from periflow_sdk.agent.observer import Observer


class RefusalError(Exception):
    """As NVMLError, which the library raises for what a GPU does not have."""


class StandIn:
    """Two GPUs: a plain one, and one that shares its memory and counts no utilisation."""

    def __init__(self) -> None:
        self.is_initialized = False
        self.is_broken = False

    def nvmlInit(self) -> None:
        self.is_initialized = True

    def nvmlDeviceGetCount(self) -> int:
        assert self.is_initialized
        if self.is_broken:
            raise RefusalError("GPU is lost")
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> str:
        return f"handle {number}"

    def nvmlDeviceGetName(self, handle: str) -> str | bytes:
        return b"A100" if handle == "handle 0" else "GB10"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        if handle == "handle 1":
            raise RefusalError("Not Supported")
        return SimpleNamespace(total=80_000, used=5_000)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        if handle == "handle 1":
            raise RefusalError("Not Supported")
        return SimpleNamespace(gpu=73)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setitem(sys.modules, "pynvml", made)  # type: ignore[arg-type]
    monkeypatch.setattr(gpu, "_has_driver", lambda: True)
    return made


def test_each_gpu_is_described_as_far_as_it_answers(library):
    assert [(each.name, each.memory_bytes) for each in Gpus.find().describe()] == [
        ("A100", 80_000),
        ("GB10", 0),
    ]


def test_utilisation_and_memory_of_gpus_are_among_the_systems_metrics(library, tmp_path, until):
    process = psutil.Process()
    observer = Observer(tmp_path, lambda: [process], python=None, variables={})
    observer.start()
    (segment,) = until(lambda: list((tmp_path / "system-0").glob("*.jsonl")))
    line = until(segment.read_text)
    observer.stop()
    assert '"system/gpu0_percent": 73' in line and '"system/gpu0_memory_bytes": 5000' in line
    assert "gpu1" not in line


def test_a_gpu_that_is_lost_under_way_does_not_end_the_measuring(library):
    gpus = Gpus.find()
    assert gpus.sample()
    library.is_broken = True
    assert gpus.sample() == {}
    library.is_broken = False
    assert gpus.sample()


def test_a_driver_without_the_library_is_told_with_what_to_install(monkeypatch, caplog):
    monkeypatch.setattr(gpu, "_has_driver", lambda: True)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with caplog.at_level(logging.WARNING):
        assert Gpus.find().describe() == []
    assert "pip install 'periflow_sdk[gpu]'" in caplog.text


def test_a_driver_that_does_not_answer_is_no_gpu(library, monkeypatch):
    def refuse() -> None:
        raise RefusalError("Driver Not Loaded")

    monkeypatch.setattr(library, "nvmlInit", refuse)
    assert Gpus.find().sample() == {}


def test_without_a_driver_nobody_asks_the_library(library, monkeypatch):
    monkeypatch.setattr(gpu, "_has_driver", lambda: False)
    assert Gpus.find().describe() == [] and not library.is_initialized


@pytest.mark.gpu
@pytest.mark.skipif(not os.path.exists("/proc/driver/nvidia"), reason="needs a GPU")  # noqa: PTH110
def test_a_real_gpu_says_what_it_is_and_does():
    gpus = Gpus.find()
    assert all(each.name and each.memory_bytes for each in gpus.describe())
    assert 0 <= gpus.sample()["system/gpu0_percent"] <= 100
