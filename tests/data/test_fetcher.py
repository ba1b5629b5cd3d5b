"""The process that reads buckets, seen by the one that it reads for."""

from __future__ import annotations

import contextlib
import textwrap
import time
from pathlib import Path

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.data import fetcher
from periflow_sdk.data.source import DataFile
from periflow_sdk.errors import PeriFlowError

LINK = m.DatasetLink(cloud="s3", storage_name="bucket", credential_id="key")
FILE = DataFile("weights", 10, "etag")


def helped_by(script: str, monkeypatch: pytest.MonkeyPatch) -> fetcher.Fetcher:
    """A fetcher whose helper is this script; it has read its greeting."""
    monkeypatch.setattr(fetcher, "_HELPER", f"import sys; input(); {textwrap.dedent(script)}")
    return fetcher.Fetcher(LINK, {})


def test_answer_that_ends_early_is_never_taken_for_the_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("obstore")
    script = """input(); print('{"id": 1, "size": 10}'); print("abc", end="")"""
    reader = helped_by(script, monkeypatch)
    with pytest.raises(PeriFlowError) as caught:
        reader.read(FILE, 0, 10).result(90)
    assert caught.value.code == "fetcher_ended"


def test_helper_that_ends_at_once_is_told_and_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("obstore")
    reader = helped_by("sys.exit()", monkeypatch)
    with pytest.raises(PeriFlowError) as caught:
        reader.read(FILE, 0, 10).result(90)
    assert caught.value.code == "fetcher_ended"
    monkeypatch.setattr(fetcher, "_HELPER", """input(); input(); print('{"id":1,"size":0}')""")
    assert reader.read(FILE, 0, 0).result(90) == b""


def _held() -> set[Path]:
    """What this process has open."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            found.add(descriptor.readlink())
    return found


def test_helper_goes_with_the_fetcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    note = tmp_path / "pid"
    script = f"""
        import os
        open({str(note)!r}, "w").write(str(os.getpid()))
        [print('{{"id": 1, "size": 0}}', flush=True) for _ in sys.stdin]
    """
    monkeypatch.setattr(fetcher, "_HELPER", f"import sys; input()\n{textwrap.dedent(script)}")
    reader = fetcher.Fetcher(LINK, {})
    reader.read(FILE, 0, 0).result(90)
    process = Path("/proc", note.read_text())
    pipes = {(process / "fd" / number).readlink() for number in "01"}
    assert pipes <= _held()
    del reader
    deadline = time.monotonic() + 90
    while process.exists():  # not even a zombie is left
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not pipes & _held()
