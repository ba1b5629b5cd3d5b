"""Agents that are killed, and what they leave whole."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest

STEPS = 400
COUNTING = f"""
import time
import periflow_sdk as pf
pf.init(total_train_steps={STEPS})
for step in range({STEPS}):
    with pf.train_step():
        time.sleep(0.01)
    pf.metric({{"x": step}})
    print("step", step, flush=True)
pf.finish()
"""


@pytest.fixture
def counting(tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    return tmp_path / "counting.py"


def test_killed_agent_is_replaced_and_nothing_is_lost_or_twice(run, client, counting):
    job = run(f"exec python {counting}")
    job.wait_for_line("step 20")
    training = job.read("training.json")
    job.kill_agent()
    job.wait_for_line("step 150")
    job.kill_agent()
    job.wait("success")
    assert job.read("training.json") == training
    assert job.log == [f"step {n}" for n in range(STEPS)]
    series = client.metric_series(client.project, job.job.number, "x")
    assert series.values == list(range(STEPS))
    assert (job.detail.step, job.detail.total_steps) == (STEPS, STEPS)


def test_command_that_ends_while_no_agent_lives_keeps_its_exit_code(run, tmp_path, until):
    job = run(f"echo ready; until test -e {tmp_path}/go; do sleep 0.05; done; exit 9")
    job.wait_for_line("ready")
    supervisor = psutil.Process(job.read("agent.json")["pid"])
    supervisor.suspend()
    (tmp_path / "go").touch()
    until(lambda: job.read("exit.json"))
    supervisor.kill()
    assert job.wait("failed").exit_code == 9


def test_killed_worker_is_replaced_and_its_checkpoint_arrives(run, client, tmp_path, until):
    (tmp_path / "saving.py").write_text(
        "import os\n"
        "import periflow_sdk as pf\n"
        "pf.init()\n"
        "with pf.train_step(): pass\n"
        "open(os.environ['CKPT_DIR'] + '/m', 'w').write('weights')\n"
        "print('saved', pf.upload_checkpoint().size, flush=True)\n"
    )
    job = run(f"until test -e {tmp_path}/go; do sleep 0.05; done; python {tmp_path}/saving.py")
    job.wait("running")

    def worker():
        children = psutil.Process(job.read("agent.json")["pid"]).children(recursive=True)
        alive = [p for p in children if p.status() != psutil.STATUS_ZOMBIE]
        return next((p for p in alive if "--worker" in p.cmdline()), None)

    first = until(worker)
    until(lambda: first.nice() == 19)
    first.suspend()
    (tmp_path / "go").touch()
    job.wait_for_line("saved 7")
    first.kill()
    job.wait("success")
    (checkpoint,) = client.checkpoints(client.project, job=job.job.number)
    assert (checkpoint.step, checkpoint.status) == (1, "ready")


def test_killed_shim_does_not_disturb_the_command(run, tmp_path, until):
    job = run(f"echo ready; until test -e {tmp_path}/go; do sleep 0.05; done; echo went on")
    job.wait_for_line("ready")
    os.kill(job.read("training.json")["shim_pid"], signal.SIGKILL)
    (tmp_path / "go").touch()
    detail = job.wait("failed")
    assert job.log == ["ready", "went on"]
    assert "not known" in (detail.reason or "")


def test_training_from_before_a_reboot_is_lost(run, tmp_path, until):
    job = run(f"echo ready; until test -e {tmp_path}/go; do sleep 0.05; done")
    job.wait_for_line("ready")
    supervisor = psutil.Process(job.read("agent.json")["pid"])
    supervisor.suspend()
    training = job.read("training.json")
    for pid in (training["shim_pid"], training["pid"]):
        os.kill(pid, signal.SIGKILL)
    training["boot_id"] = "an earlier one"
    (job.folder / "training.json").write_text(json.dumps(training))
    supervisor.kill()
    until(lambda: job.detail.attempts[0].status == "node-lost", job.story)


def test_torn_last_line_of_a_killed_process_is_set_aside(run, client, tmp_path):
    (tmp_path / "torn.py").write_text(
        "import glob, os, signal, subprocess, sys\n"
        "import periflow_sdk as pf\n"
        "pf.init()\n"
        "first = len(sys.argv) > 1\n"
        "with pf.train_step(): pf.metric({'x': 1 if first else 2})\n"
        "if first:\n"
        "    subprocess.run([sys.executable, sys.argv[0]])\n"
        "    for path in glob.glob(os.environ['PERIFLOW_RUN_DIR'] + f'/rank-0/*-{os.getpid()}*'):\n"
        '        open(path, \'a\').write(\'{"t":"metric","s":9,\')\n'
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    job = run(f"python {tmp_path}/torn.py first")
    assert job.wait("failed").exit_code == 137
    series = client.metric_series(client.project, job.job.number, "x")
    assert sorted(series.values) == [1, 2]


def test_server_killed_while_the_job_runs(own_server, run_on, counting, until):
    job = run_on(own_server, f"exec python {counting}")
    job.wait_for_line("step 20")
    own_server.kill()
    until(lambda: "step 150\n" in (job.folder / "output.log").read_text())
    own_server.start()
    job.client.url = own_server.url
    job.wait("success")
    assert job.log == [f"step {n}" for n in range(STEPS)]
    series = job.client.metric_series(job.client.project, job.job.number, "x")
    assert series.values == list(range(STEPS))
