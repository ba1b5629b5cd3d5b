"""Folders of attached runs go once everything is sent, and never before."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from periflow_sdk import _control as word
from periflow_sdk.agent.folder import NodeFolder, try_lock
from periflow_sdk.agent.pruning import KEPT_SECONDS, prune_runs

SEGMENT = f"{1:020}-7"


@pytest.fixture
def finished(tmp_path: Path) -> Iterator[NodeFolder]:
    """A run of the day before yesterday that was sent whole, by an agent that is gone."""
    folder = NodeFolder.open(tmp_path / "attached" / ("a" * 32))
    memory = Path(f"/dev/shm/attached-{os.getpid()}-{tmp_path.name}")
    rank = folder / "run" / "rank-0"
    rank.mkdir(parents=True)
    memory.mkdir()
    (rank / f"{SEGMENT}.jsonl").write_bytes(b'{"s":1}\n')
    words = [0] * 16
    words[0], words[word.STATE], words[word.PID] = word.MAGIC, word.DONE, dead_pid()
    (rank / "progress").write_bytes(struct.pack("<16q", *words))
    about = {"checkpoint_dir": str(tmp_path / "ckpt"), "memory_dir": str(memory)}
    (folder / "attached.json").write_text(json.dumps(about))
    (folder / "worker.json").write_text(json.dumps({"complete": True, "ledger": {}}))
    write_state(folder)
    yield folder
    shutil.rmtree(memory, ignore_errors=True)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_state(folder: NodeFolder, phase: str = "finished", sent: int = 8, age: float = 2) -> None:
    state = {"phase": phase, "journal_offsets": {f"0/{SEGMENT}": sent}}
    (folder / "state.json").write_text(json.dumps(state))
    then = time.time() - age * KEPT_SECONDS
    os.utime(folder / "state.json", (then, then))


def memory_of(folder: NodeFolder) -> Path:
    return folder.memory(Path("/nowhere"))


def test_a_run_that_was_sent_long_ago_is_removed_whole(finished):
    prune_runs(finished.path.parent)
    assert not finished.path.exists()
    assert not memory_of(finished).exists()


def test_a_run_that_was_sent_today_keeps_its_log_and_nothing_large(finished):
    write_state(finished, age=0.1)
    memory = memory_of(finished)
    prune_runs(finished.path.parent)
    assert (finished / "attached.json").exists()
    assert not (finished / "run").exists() and not memory.exists()


@pytest.mark.parametrize("state", [{"sent": 0}, {"phase": "finishing"}, {"phase": "running"}])
def test_records_that_were_not_sent_stay(finished, state):
    write_state(finished, **state)
    prune_runs(finished.path.parent)
    assert (finished / "run" / "rank-0" / f"{SEGMENT}.jsonl").exists()


def test_a_run_with_a_checkpoint_that_was_not_sent_stays(finished):
    part = {"rank": 0, "upload_id": "b" * 32, "files": {"m": 1}}
    kept = {"step": 1, "save_type": "NORMAL", "parts": [part]}
    document = {"complete": True, "ledger": {"kept": [kept]}}
    (finished / "worker.json").write_text(json.dumps(document))
    prune_runs(finished.path.parent)
    assert (finished / "worker.json").exists()


def test_a_run_whose_agent_lives_is_left_alone(finished):
    lock = try_lock(finished / "agent.lock")
    try:
        prune_runs(finished.path.parent)
    finally:
        os.close(lock)
    assert (finished / "run").exists() and memory_of(finished).exists()


def test_a_run_that_begins_keeps_its_memory(finished):
    shutil.rmtree(finished / "run")
    (finished / "state.json").unlink()
    prune_runs(finished.path.parent)
    assert memory_of(finished).exists()


def test_what_else_lies_there_is_not_touched(finished):
    other = finished.path.parent / "notes"
    other.mkdir()
    link = finished.path.parent / "link"
    link.symlink_to(other)
    prune_runs(finished.path.parent)
    assert other.is_dir() and link.is_symlink()
