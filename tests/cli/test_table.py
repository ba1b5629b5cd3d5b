"""Tables fit the terminal they are shown in, and stay readable."""

from __future__ import annotations

import io
import re
import uuid
from datetime import UTC, datetime

import pytest
from rich.console import Console

from periflow_cli.jobs import list_row, show_job
from periflow_cli.output import Output
from periflow_cli.render import table
from periflow_sdk.api import models as m

IDS = ["b525cd25-3e48-49c3-a91d-be9e1d577509", "b525cd2f-bb22-4df9-832f-9d74db5febb8"]
COLUMNS = ("ID", "Status", "Device", "Message")


def _drawn(monkeypatch: pytest.MonkeyPatch, width: int, message: str = "ready") -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    rows = [(each, "success", "local-cpu", message) for each in IDS]
    console = Console(file=io.StringIO(), width=width)
    console.print(table(COLUMNS, rows, spare=("Device",)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_wide_terminal_shows_everything(monkeypatch) -> None:
    text = "\n".join(_drawn(monkeypatch, 120))
    assert all(each in text for each in IDS) and "local-cpu" in text


@pytest.mark.parametrize("width", [40, 50, 60, 80])
def test_narrow_terminal_cuts_ids_to_a_unique_start_first(monkeypatch, width: int) -> None:
    lines = _drawn(monkeypatch, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "b525cd25" in text and "b525cd2f" in text and "success" in text
    assert ("local-cpu" in text) == (width >= 50)


def test_long_messages_fold_inside_their_column(monkeypatch) -> None:
    lines = _drawn(monkeypatch, 60, "The agent is up; it fetches the workspace and the data.")
    assert max(map(len, lines)) <= 60
    assert "success" in "\n".join(lines)


def test_what_is_cut_is_seen_to_be_cut(monkeypatch) -> None:
    text = "\n".join(_drawn(monkeypatch, 24))
    assert "…" in text and "success" not in text


def test_column_of_sentences_folds_before_others_go(monkeypatch) -> None:
    text = "\n".join(
        _drawn(monkeypatch, 80, "The agent is up; it fetches the workspace and the data.")
    )
    assert "local-cpu" in text


def test_job_with_very_many_checkpoints_is_still_read_at_a_glance(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    job = _job_with_checkpoints(300)
    gone = "The checkpoint of step {} was removed: keep_last 10."
    for step in range(1, 290):
        event = job.events[-1].model_copy(update={"kind": "retention"})
        event.message = gone.format(step)
        job.events.insert(2 * step + 10, event)
    show_job(Output(), job)
    shown = capsys.readouterr()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.out).splitlines()
    assert len(lines) < 60 and max(map(len, lines)) <= 60
    text = " ".join(" ".join(lines).split())
    assert "step 300 is ready. 299 were before it." in text
    assert f"{gone.format(289)} 288 were before it." in text
    assert "The command runs." in text and " 291 " in text and " 290 " not in text
    assert "pf checkpoint list --job 1" in shown.err


@pytest.mark.parametrize(
    ("step", "total", "listed", "viewed"),
    [
        (3, 12, "25.00%", "25.00% (step 3 of 12)"),
        (12, 12, "100.00%", "100.00% (step 12 of 12)"),
        (400, 12, "step 400", "step 400 (more than the 12 announced)"),
        (400, None, "step 400", "step 400"),
        (None, 12, "-", "-"),
    ],
)
def test_progress_is_never_more_than_all(
    capsys, step: int | None, total: int | None, listed: str, viewed: str
) -> None:
    job = _job_with_checkpoints(0).model_copy(update={"step": step, "total_steps": total})
    assert list_row(job, relative=False)[-1] == listed
    show_job(Output(), job)
    assert f"Progress\t{viewed}\n" in capsys.readouterr().out


def _job_with_checkpoints(count: int) -> m.JobDetail:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    ready = [f"The checkpoint of step {step} is ready." for step in range(1, count + 1)]
    events = [m.Event(time=now, attempt=1, kind="running", message="The command runs.")]
    events += [m.Event(time=now, attempt=1, kind="checkpoint", message=each) for each in ready]
    checkpoints = [
        m.Checkpoint(
            id=str(uuid.UUID(int=step << 96)),
            job=1,
            step=step,
            save_type="NORMAL",
            status="ready",
            size=1000,
            created_at=now,
        )
        for step in range(count, 0, -1)
    ]
    return m.JobDetail(
        id=str(uuid.UUID(int=7)),
        number=1,
        name="long",
        status="running",
        vm="local-cpu",
        device="cpu",
        num_devices=1,
        created_by="ada",
        created_at=now,
        spec={},
        attempts=[],
        events=events,
        checkpoints=checkpoints,
    )
