"""Wrong calls raise at once and say what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import periflow_sdk as pf
from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from conftest import Run


def test_misspelt_argument_names_the_right_one(run: Run) -> None:
    with pytest.raises(UsageError, match=r"'total_train_step'.*'total_train_steps'"):
        pf.init(total_train_step=10)  # type: ignore[arg-type]


@pytest.mark.parametrize("total", ["100", 1.5, True, [3]])
def test_wrong_total_is_refused(run: Run, total: Any) -> None:
    with pytest.raises(UsageError, match="total_train_steps"):
        pf.init(total_train_steps=total)


def test_wrong_config_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="config"):
        pf.init(config=3)


def test_config_that_contains_itself_is_refused(run: Run) -> None:
    config: dict[str, Any] = {}
    config["me"] = config
    with pytest.raises(UsageError, match="contains itself"):
        pf.init(config=config)


def test_local_log_that_cannot_be_written_is_refused(local: Run) -> None:
    with pytest.raises(UsageError, match="local_log_name"):
        pf.init(local_log_name=local.folder)


@pytest.mark.parametrize(
    "call",
    [
        pf.start_step,
        pf.end_step,
        lambda: pf.metric({"a": 1}),
        pf.upload_checkpoint,
        lambda: pf.save_checkpoint({}),
        pf.current_step,
        pf.is_emergency_save,
        pf.should_stop,
        pf.deadline,
        pf.status,
        lambda: pf.train_step().__enter__(),
    ],
)
def test_calls_before_init_and_after_finish_name_init(run: Run, call: Callable[[], Any]) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert "pf.init()" in (caught.value.hint or "")
    pf.init()
    pf.finish()
    with pytest.raises(UsageError, match="after finish"):
        call()


def test_start_step_twice(run: Run) -> None:
    pf.init()
    pf.start_step()
    with pytest.raises(UsageError, match="step 1 has not ended"):
        pf.start_step()
    pf.end_step()
    assert pf.current_step() == 1


def test_end_step_without_start_step(run: Run) -> None:
    pf.init()
    with pytest.raises(UsageError, match="without start_step"):
        pf.end_step()


@pytest.mark.parametrize("values", [3.5, None, ["loss"], "loss"])
def test_metric_of_no_mapping(run: Run, values: Any) -> None:
    pf.init()
    with pytest.raises(UsageError, match="names and values"):
        pf.metric(values)


@pytest.mark.parametrize("name", [1, None, ("a", "b"), b"loss"])
def test_metric_names_are_strings(run: Run, name: Any) -> None:
    pf.init()
    with pytest.raises(UsageError, match="names are strings"):
        pf.metric({name: 1.0})


def test_upload_of_a_path_that_is_not_there(run: Run) -> None:
    pf.init()
    with pytest.raises(UsageError, match=r"nowhere\.pt"):
        pf.upload_checkpoint("nowhere.pt")


@pytest.mark.parametrize("name", ["../x.pt", "/etc/x.pt", "", ".", ".periflow/x", "a/../../x", 3])
def test_checkpoint_names_stay_in_the_folder(run: Run, name: Any) -> None:
    pf.init()
    with pytest.raises(UsageError, match="inside the checkpoint folder"):
        pf.save_checkpoint({}, name)


def test_unknown_checkpoint_format(run: Run) -> None:
    pf.init()
    with pytest.raises(UsageError, match="'onnx'"):
        pf.save_checkpoint({}, format="onnx")  # type: ignore[arg-type]
