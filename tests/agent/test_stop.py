"""Stopping: gracefully first, the whole tree, and with the exit code of the command."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient

HANDLER = """
import signal, sys, time
def leave(number, frame):
    print("handler ran", flush=True)
    sys.exit(42)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "handler.py").write_text(HANDLER)
    return tmp_path / "handler.py"


def test_stopped_job_runs_its_handler_and_keeps_its_exit_code(run, client, script):
    job = run(f"exec python {script}")
    job.wait_for_line("ready")
    client.stop_job(client.project, job.job.number)
    detail = job.wait("stopped")
    assert detail.attempts[0].exit_code == 42
    assert job.log.count("handler ran") == 1


def test_handler_below_a_shell_gets_its_grace(run, client, tmp_path):
    slow = HANDLER.replace(
        "    sys.exit", "    time.sleep(2); print('saved', flush=True)\n    sys.exit"
    )
    (tmp_path / "slow.py").write_text(slow)
    job = run(f"python {tmp_path}/slow.py; echo next command")
    job.wait_for_line("ready")
    client.stop_job(client.project, job.job.number)
    job.wait("stopped")
    assert job.log[-1] == "saved"
    assert job.log.count("handler ran") == 1


def test_stop_reaches_detached_processes(run, client, tmp_path):
    job = run(f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 600' & echo ready; wait")
    job.wait_for_line("ready")
    client.stop_job(client.project, job.job.number)
    job.wait("stopped")
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_agent_that_is_told_to_leave_ends_the_command_gracefully(run, script):
    job = run(f"exec python {script}", restart={"on": []})
    job.wait_for_line("ready")
    os.kill(job.read("agent.json")["pid"], signal.SIGTERM)
    (attempt,) = job.wait("failed").attempts
    assert (attempt.status, attempt.exit_code) == ("preempted", 42)


def test_second_signal_kills_a_command_that_ignores_the_first(run, tmp_path):
    (tmp_path / "deaf.py").write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *a: print('not now', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(600)\n"
    )
    job = run(f"exec python {tmp_path}/deaf.py", restart={"on": []})
    job.wait_for_line("ready")
    pid = job.read("agent.json")["pid"]
    os.kill(pid, signal.SIGTERM)
    job.wait_for_line("not now")
    os.kill(pid, signal.SIGTERM)
    assert job.wait("failed").attempts[0].exit_code == 137


def test_superseded_agent_ends_the_command_and_leaves(run, server, script, until):
    job = run(f"exec python {script}")
    job.wait_for_line("ready")
    training = job.read("training.json")["pid"]
    with ApiClient(server.url, (job.folder / "token").read_text()) as agent:
        agent.finish_attempt(m.AgentFinish(outcome="error", reason="another has it"))
    until(lambda: not Path(f"/proc/{training}").exists(), job.story)
    until(lambda: job.read("state.json")["phase"] == "superseded")
    assert "handler ran" in (job.folder / "output.log").read_text()
