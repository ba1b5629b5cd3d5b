"""What a command finds, and how its end is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from periflow_sdk.api import models as m
from periflow_sdk.snapshots import upload_folder


def test_failed_command_gives_its_exit_code_and_last_lines(run):
    detail = run("for n in $(seq 30); do echo line $n; done; exit 7").wait("failed")
    assert (detail.exit_code, detail.attempts[0].exit_code) == (7, 7)
    assert detail.log_tail == [f"line {n}" for n in range(11, 31)]


def test_command_killed_by_a_signal_exits_with_128_plus_it(run):
    assert run("kill -9 $$").wait("failed").exit_code == 137


def test_output_is_complete_and_in_order(run):
    job = run("for n in $(seq 400); do echo out $n; echo err $n >&2; done; printf tail")
    job.wait("success")
    expected = [f"{stream} {n}" for n in range(1, 401) for stream in ("out", "err")]
    assert job.log == [*expected, "tail"]


def test_workspace_keeps_its_name_below_the_mount_path(run, tmp_path):
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar" / "main.py").write_text("print('code ran')")
    job = run("pwd; cd /workspace/cifar && python main.py", workspace=tmp_path / "cifar")
    job.wait("success")
    assert job.log == ["/workspace", "code ran"]


def test_environment_is_the_original_contract(run):
    names = "NUM_NODES NODE_RANK NPROC_PER_NODE WORLD_SIZE PROCESSED_ITERS CKPT_DIR PF_TEST RANK"
    job = run(
        f'for n in {names}; do echo "$n=${{!n-absent}}"; done; test -w "$PERIFLOW_RUN_DIR"',
        devices=2,
        env={"PF_TEST": "from the file"},
    )
    job.wait("success")
    assert job.log == [
        "NUM_NODES=1",
        "NODE_RANK=0",
        "NPROC_PER_NODE=2",
        "WORLD_SIZE=2",
        "PROCESSED_ITERS=0",
        "CKPT_DIR=/workspace/ckpt",
        "PF_TEST=from the file",
        "RANK=absent",
    ]


def test_environment_names_the_job_its_server_and_where_ranks_meet(run):
    names = "PERIFLOW_ENABLED PERIFLOW_JOB MASTER_ADDR PYTHONUNBUFFERED"
    numbers = "MASTER_PORT TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
    job = run(
        f'for n in {names}; do echo "$n=${{!n-absent}}"; done\n'
        f'for n in {numbers}; do test "${{!n}}" -gt 0 && echo "$n"; done\n'
        'case "$PERIFLOW_URL" in http://*) echo url;; esac\n'
        'stat -c %a "$PERIFLOW_TOKEN_FILE"'
    )
    job.wait("success")
    assert job.log == [
        "PERIFLOW_ENABLED=1",
        f"PERIFLOW_JOB={job.job.number}",
        "MASTER_ADDR=127.0.0.1",
        "PYTHONUNBUFFERED=1",
        *numbers.split(),
        "url",
        "600",
    ]


def test_servers_own_variables_do_not_reach_the_job(run):
    job = run("env")
    job.wait("success")
    assert not [line for line in job.log if line.startswith("PERIFLOW_SERVER_")]
    assert not [line for line in job.log if line.startswith("PERIFLOW_HOME")]


def test_python_is_that_of_the_shell(run):
    job = run("python -c 'import sys; print(sys.prefix)'")
    job.wait("success")
    assert job.log == [sys.prefix]


def test_setup_that_fails_ends_the_job_with_its_code(run):
    job = run({"setup": "echo setting up\n(exit 5)", "run": "echo never"})
    assert job.wait("failed").exit_code == 5
    assert job.log == ["setting up"]


def test_run_has_what_its_setup_exported(run):
    job = run({"setup": "export X=1\ncd /tmp", "run": "echo $X $PWD"})
    job.wait("success")
    assert job.log == ["1 /tmp"]


def test_printed_line_is_visible_before_the_command_ends(run, tmp_path):
    job = run(f"echo here; until [ -e {tmp_path}/seen ]; do sleep 0.05; done")
    job.wait_for_line("here")
    assert job.detail.status == "running"
    (tmp_path / "seen").touch()
    job.wait("success")


def test_host_root_is_as_it_was(run):
    before = sorted(Path("/").iterdir())
    job = run("touch /made-by-the-job; mkdir /workspace/made; ls -d /made-by-the-job; sleep 2")
    job.wait_for_line("/made-by-the-job")
    assert sorted(Path("/").iterdir()) == before
    job.wait("success")
    assert sorted(Path("/").iterdir()) == before


def test_job_writes_beside_its_data_and_the_dataset_stays(run, client, tmp_path, until):
    (tmp_path / "d").mkdir()
    for name in ("kept.txt", "gone.txt"):
        (tmp_path / "d" / name).write_text("original")
    snapshot = upload_folder(client, client.project, tmp_path / "d", keep_name=False)
    data = client.create_dataset(
        client.project, m.DatasetCreate(name="cow", snapshot_id=snapshot.id)
    )
    job = run(
        "cd $PERIFLOW_DATA_DIR && echo changed > kept.txt && rm gone.txt && touch new.txt && "
        "ls && cat kept.txt && sleep 3",
        data=data,
    )
    job.wait_for_line("changed")
    assert job.log == ["kept.txt", "new.txt", "changed"]
    fetched = job.folder / "data" / "0"
    assert {p.name: p.read_text() for p in fetched.iterdir()} == {
        "kept.txt": "original",
        "gone.txt": "original",
    }
    job.wait("success")
    until(lambda: not fetched.exists())


def test_what_the_command_installs_goes_with_the_attempt(run, tmp_path):
    prefix = tmp_path / "venv"
    (prefix / "lib").mkdir(parents=True)
    (prefix / "lib" / "old.py").write_text("old")
    shell = m.ShellEnvironment(prefix=str(prefix), variables={"PATH": os.environ["PATH"]})
    job = run(f"cd {prefix}/lib && echo new > new.py && echo more >> old.py && cat *", shell=shell)
    job.wait("success")
    assert job.log == ["new", "oldmore"]
    assert [p.name for p in (prefix / "lib").iterdir()] == ["old.py"]
    assert (prefix / "lib" / "old.py").read_text() == "old"


def test_left_over_processes_end_with_the_command(run, tmp_path):
    daemon = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "daemon.py").write_text(daemon)
    job = run(f"python {tmp_path}/daemon.py; until test -s {tmp_path}/pid; do sleep 0.05; done")
    job.wait("success")
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_image_that_is_not_used_is_named_in_the_events(run):
    job = run("true")
    job.wait("success")
    assert any("python:3.11 is not used" in event for event in job.events)


def test_what_is_big_is_removed_and_the_logs_stay(run, until):
    job = run("echo done")
    job.wait("success")
    until(lambda: not (job.folder / "plan.json").exists())
    run_dir = Path(job.read("state.json")["run_dir"])
    names = {path.name for path in job.folder.iterdir()}
    assert {"output.log", "agent.log", "state.json"} <= names
    assert not names & {"overlay", "data", "root", "plan.json"}
    assert not run_dir.exists()


def test_damaged_workspace_fails_the_job_with_a_reason(run, client, server, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "f").write_text("x")
    manifests = server.data_dir / "storage" / "manifests"
    before = set(manifests.rglob("*.json"))
    # All devices are taken: the second job waits until its snapshot is gone.
    devices = client.vm_types(client.project)[0].quota
    first = run(f"until test -e {tmp_path}/go; do sleep 0.05; done", devices=devices)
    second = run("echo never", workspace=tmp_path / "w")
    (manifest,) = set(manifests.rglob("*.json")) - before
    manifest.write_bytes(b"{}")
    (tmp_path / "go").touch()
    first.wait("success")
    detail = second.wait("failed")
    assert detail.exit_code is None
    assert "manifest" in (detail.reason or "")


def test_mount_path_over_a_system_folder_is_refused(run):
    job = run("true", output="/etc")
    assert "/etc is a folder of the system" in job.wait("failed").reason
