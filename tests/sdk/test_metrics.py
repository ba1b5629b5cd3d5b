"""What metric() keeps."""

from __future__ import annotations

import decimal
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import periflow_sdk as pf

if TYPE_CHECKING:
    from conftest import Run


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (0.1, 0.1),
        (1e-300, 1e-300),
        (3, 3),
        (2**62, 2**62),
        (2**80, float(2**80)),
        (10**400, "Infinity"),
        (True, True),
        ('tab\t "quote" é 漢 \n', 'tab\t "quote" é 漢 \n'),
        ("lone \ud800", "lone ?"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.float64("nan"), "NaN"),
        (np.int64(7), 7),
        (np.bool_(False), False),
        (np.array(2.5), 2.5),
        (np.array([2.5]), 2.5),
        (decimal.Decimal("0.25"), 0.25),
    ],
    ids=repr,
)
def test_value_is_read_back_as_it_was_given(run: Run, value: Any, kept: Any) -> None:
    pf.init(local_log_name=run.log_name)
    pf.start_step()
    pf.metric({"value": value, "after": 1.5})
    assert run.metrics() == [(1, {"value": kept, "after": 1.5})]


def test_tensors_of_one_element_are_taken(run: Run) -> None:
    torch = pytest.importorskip("torch")
    pf.init(local_log_name=run.log_name)
    loss = torch.tensor(0.25, requires_grad=True) * 2
    pf.metric({"loss": loss, "half": torch.tensor([1.5], dtype=torch.bfloat16)})
    assert run.metrics() == [(0, {"loss": 0.5, "half": 1.5})]


@pytest.mark.parametrize(
    "value",
    [None, [1.0], {"a": 1}, np.zeros(3), 1j, np.complex64(1j), set(), b"bytes"],
    ids=repr,
)
def test_other_values_are_refused_by_name_and_nothing_is_kept(run: Run, value: Any) -> None:
    pf.init(local_log_name=run.log_name)
    with pytest.raises(pf.PeriFlowError, match=r"'grad_norms'.*numbers, strings, bools"):
        pf.metric({"loss": 1.0, "grad_norms": value})
    assert run.metrics() == []


def test_metric_keeps_the_current_step_within_and_between_steps(run: Run) -> None:
    pf.init(local_log_name=run.log_name)
    pf.metric({"a": 0})
    pf.start_step()
    pf.metric({"a": 1})
    pf.end_step()
    pf.metric({"a": 2})
    with pf.train_step():
        pf.metric({"a": 3})
    assert run.metrics() == [(0, {"a": 0}), (1, {"a": 1}), (1, {"a": 2}), (2, {"a": 3})]


def test_names_are_kept_whatever_they_are(run: Run) -> None:
    pf.init(local_log_name=run.log_name)
    names = {'quo"te': 1, "slash/train": 2, "ü": 3, "new\nline": 4, "": 5}
    pf.metric(names)
    pf.metric(names)
    assert run.metrics() == [(0, names)] * 2


def test_more_names_than_are_remembered_are_kept(run: Run) -> None:
    pf.init(local_log_name=run.log_name)
    pf.metric({f"m{i}": i for i in range(25_000)})
    (_, values), *rest = run.metrics()
    assert not rest and values["m24999"] == 24_999 and len(values) == 25_000


def test_empty_metric_leaves_nothing(run: Run) -> None:
    pf.init(local_log_name=run.log_name)
    pf.metric({})
    assert run.metrics() == []


def test_local_log_has_the_shape_that_people_read(local: Run) -> None:
    pf.init(total_train_steps=1, local_log_name=local.log_name, config={"lr": 1})
    with pf.train_step():
        pf.metric({"loss": 0.5})
    (line,) = [json.loads(text) for text in local.log_name.read_text().splitlines()]
    assert set(line) == {"step", "time", "loss"}
    assert (line["step"], line["loss"]) == (1, 0.5) and line["time"] > 1.7e9


def test_users_own_step_wins_over_ours(local: Run) -> None:
    pf.init(local_log_name=local.log_name)
    pf.metric({"step": 17, "loss": 0.5})
    assert json.loads(local.log_name.read_text())["step"] == 17


def test_local_log_is_appended_to_and_survives_a_torn_line(local: Run) -> None:
    local.log_name.write_bytes(b'{"step":1,"time":1.0,"loss":1.0}\n{"step":2,"ti')
    pf.init(local_log_name=local.log_name)
    pf.metric({"loss": 3.0})
    first, torn, last = local.log_name.read_text().splitlines()
    assert json.loads(first)["loss"] == 1.0 and torn == '{"step":2,"ti'
    assert json.loads(last)["loss"] == 3.0


def test_without_a_log_name_nothing_is_written(local: Run) -> None:
    before = sorted(local.folder.rglob("*"))
    pf.init()
    with pf.train_step():
        pf.metric({"loss": 1.0})
    pf.finish()
    assert sorted(local.folder.rglob("*")) == before
