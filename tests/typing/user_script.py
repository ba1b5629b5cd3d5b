"""A training script as users write it; mypy --strict has nothing to say about it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import assert_type

import periflow_sdk as pf
from periflow_sdk import periflow


def train(total: int) -> None:
    pf.init(total_train_steps=total, local_log_name=Path("log.jsonl"), config={"lr": 1e-3})
    pf.init(total, "log.jsonl", config=argparse.Namespace(lr=1e-3), attach=False)
    assert_type(pf.latest_checkpoint(), Path | None)
    for _ in range(pf.current_step(), total):
        with pf.train_step():
            pf.metric({"loss": 0.5, "phase": "warm-up", "clipped": True})
        if pf.is_emergency_save() or pf.current_step() % 100 == 0:
            upload = pf.save_checkpoint({"step": pf.current_step()}, "last.pt", format="torch")
            assert_type(upload, pf.Upload)
            assert_type(upload.wait(timeout_seconds=1.0), bool)
            assert_type(upload.error, str | None)
        if pf.should_stop():
            break
    pf.start_step()
    pf.end_step()
    assert_type(pf.upload_checkpoint("folder"), pf.Upload)
    assert_type(pf.deadline(), float | None)
    assert_type(pf.status().lost_records, int)
    pf.finish()
    pf.finish(early=pf.current_step() < total)


def raising_passes_through() -> int:
    with pf.train_step():
        return 1


def train_as_in_2022() -> None:
    periflow.init(total_train_steps=10)
    assert_type(periflow.current_step(), int)


try:
    train(10)
except pf.PeriFlowError as error:
    assert_type(error.hint, str | None)
