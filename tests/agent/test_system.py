"""What a node's agent says of its machine."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil

from periflow_sdk.agent.git import git_state
from periflow_sdk.agent.system import node_system


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    command = ["git", *identity, "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    (folder / "code.py").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_machine_and_packages_of_the_jobs_python_reach_the_job(run, until):
    job = run("python -c 'x = bytearray(80_000_000); import time; time.sleep(6)'")
    system = until(lambda: (s := job.detail.system) and s.nodes and s.nodes[0].packages and s)
    (node,) = system.nodes
    assert (node.node, node.cpu_count) == (0, os.cpu_count())
    assert node.memory_bytes == psutil.virtual_memory().total
    assert node.packages["psutil"] == version("psutil")
    assert node.python == ".".join(map(str, sys.version_info[:3]))

    def memory() -> list[float]:
        names = job.client.metric_names(job.client.project, job.job.number, system=True)
        if "system/memory_bytes" not in [name.name for name in names]:
            return []
        series = job.client.metric_series(
            job.client.project, job.job.number, "system/memory_bytes", rank=-1
        )
        return [value for value in series.values if value > 80_000_000]

    until(memory)
    job.wait("success")
    assert job.client.metric_names(job.client.project, job.job.number) == []


def test_environment_variables_are_not_captured(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hunter2")
    system = node_system(sys.executable, {**os.environ, "API_KEY": "hunter2"})
    assert "hunter2" not in system.model_dump_json()
    assert system.packages


def test_python_that_does_not_answer_leaves_the_machine(tmp_path):
    system = node_system(str(tmp_path / "none"), {})
    assert (system.python, system.packages) == (None, {})
    assert system.cpu_count > 0


def test_code_that_is_committed_is_clean(tmp_path):
    folder = repository(tmp_path / "r")
    state = git_state(folder)
    assert state is not None
    assert (state.commit, state.branch) == (git(folder, "rev-parse", "HEAD"), "trunk")
    assert (state.dirty, state.diff_bytes) == (False, 0)


def test_changes_count_and_files_that_git_does_not_know_are_dirt(tmp_path):
    folder = repository(tmp_path / "r")
    (folder / "new.txt").write_text("x")
    state = git_state(folder)
    assert state is not None and (state.dirty, state.diff_bytes) == (True, 0)
    (folder / "code.py").write_text("two\n")
    state = git_state(folder)
    assert state is not None and state.dirty
    assert state.diff_bytes == len(git(folder, "diff", "HEAD")) + 1


def test_folder_without_a_repository_or_a_commit_has_no_state(tmp_path):
    assert git_state(tmp_path) is None
    (tmp_path / "r").mkdir()
    git(tmp_path / "r", "init", "-q")
    assert git_state(tmp_path / "r") is None


def test_programs_that_a_repository_names_are_not_run(tmp_path):
    folder = repository(tmp_path / "r")
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    git(folder, "config", "core.fsmonitor", str(trap))
    git(folder, "config", "diff.external", str(trap))
    (folder / ".git" / "hooks").mkdir(exist_ok=True)
    (folder / "code.py").write_text("two\n")
    (tmp_path / "sprung").unlink(missing_ok=True)
    assert git_state(folder) is not None
    assert not (tmp_path / "sprung").exists()
