"""Tables fit the terminal they are shown in, and stay readable."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from periflow_cli.render import table

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
