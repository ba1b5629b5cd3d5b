"""Values on a GPU are kept once they arrive, without a wait."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import periflow_sdk as pf
from periflow_sdk import _tensors
from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from conftest import Run


class GpuTensor:
    """A tensor that breaks the test when anything would wait for its device."""

    is_cuda = True

    def __init__(self, value: float, count: int = 1) -> None:
        self.value = value
        self.count = count
        self.is_ready = False
        self.shape = (count,)

    def numel(self) -> int:
        return self.count

    def is_complex(self) -> bool:
        return False

    def item(self) -> float:
        raise AssertionError("this waits for the device")

    __float__ = __int__ = __bool__ = __str__ = __repr__ = tolist = cpu = item


class Copy:
    """What CudaCopy does, for GpuTensor."""

    def __init__(self, tensor: GpuTensor) -> None:
        self._tensor = tensor

    def has_arrived(self) -> bool:
        return self._tensor.is_ready

    def item(self) -> float:
        assert self._tensor.is_ready
        return self._tensor.value


@pytest.fixture
def gpu_run(run: Run) -> Run:
    pf.init(local_log_name=run.log_name)
    session: Any = pf._training._run
    session.log.late = _tensors.LateValues(Copy)
    return run


def test_late_value_keeps_its_step_and_delays_no_other(gpu_run: Run) -> None:
    loss = GpuTensor(0.5)
    pf.start_step()
    pf.metric({"loss": loss, "lr": 0.1})
    assert gpu_run.metrics() == [(1, {"lr": 0.1})]
    assert pf.status().pending_values == 1
    pf.end_step()
    loss.is_ready = True
    pf.start_step()
    pf.metric({"lr": 0.2})
    assert gpu_run.metrics() == [(1, {"lr": 0.1}), (1, {"loss": 0.5}), (2, {"lr": 0.2})]
    assert pf.status().pending_values == 0


def test_value_that_has_not_arrived_does_not_hold_up_a_later_one(gpu_run: Run) -> None:
    slow, fast = GpuTensor(1.0), GpuTensor(2.0)
    pf.metric({"slow": slow})
    pf.metric({"fast": fast})
    fast.is_ready = True
    pf.metric({})
    assert gpu_run.metrics() == [(0, {"fast": 2.0})]


def test_values_of_a_name_keep_their_order_when_the_first_arrives_last(gpu_run: Run) -> None:
    losses = [GpuTensor(float(n)) for n in range(3)]
    for loss in losses:
        with pf.train_step():
            pf.metric({"loss": loss})
    losses[1].is_ready = losses[2].is_ready = True
    pf.metric({})
    assert gpu_run.metrics() == [] and pf.status().pending_values == 3
    losses[0].is_ready = True
    pf.metric({})
    assert gpu_run.metrics() == [(n + 1, {"loss": float(n)}) for n in range(3)]


def test_nothing_reads_a_value_on_its_way_whatever_is_called(gpu_run: Run) -> None:
    for _ in range(50):
        with pf.train_step():
            pf.metric({"loss": GpuTensor(0.5), "lr": 0.1})
        pf.is_emergency_save(), pf.should_stop(), pf.status(), pf.current_step()
    assert len(gpu_run.metrics()) == 50 and pf.status().pending_values == 50


def test_end_step_takes_in_what_has_arrived(gpu_run: Run) -> None:
    loss = GpuTensor(float("nan"))
    pf.start_step()
    pf.metric({"loss": loss})
    loss.is_ready = True
    pf.end_step()
    if gpu_run.mode == "job":
        assert gpu_run.metrics() == [(1, {"loss": "NaN"})]


def test_finish_keeps_what_arrives_and_gives_up_on_the_rest(
    gpu_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("periflow_sdk._session._LATE_SECONDS", 0.05)
    there, never = GpuTensor(1.0), GpuTensor(2.0)
    pf.metric({"there": there})
    pf.metric({"never": never})
    there.is_ready = True
    pf.finish()
    assert gpu_run.metrics() == [(0, {"there": 1.0})]


def test_gpu_tensor_of_several_elements_is_refused_without_a_wait(gpu_run: Run) -> None:
    with pytest.raises(UsageError, match=r"'grads'"):
        pf.metric({"grads": GpuTensor(0.0, count=3)})


@pytest.mark.gpu
def test_value_of_a_real_gpu_arrives(local: Run) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    pf.init(local_log_name=local.log_name)
    pf.metric({"loss": torch.ones((), device="cuda") * 0.5})
    pf.finish()
    assert local.metrics() == [(0, {"loss": 0.5})]


def test_log_without_a_file_forgets_late_values_too(local: Run, tmp_path: Path) -> None:
    pf.init()
    session: Any = pf._training._run
    session.log.late = _tensors.LateValues(Copy)
    loss = GpuTensor(0.5)
    pf.metric({"loss": loss})
    loss.is_ready = True
    pf.metric({"lr": 1.0})
    assert pf.status().pending_values == 0
