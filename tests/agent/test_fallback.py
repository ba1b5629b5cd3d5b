"""Jobs where the system allows no namespaces: taken away for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.snapshots import upload_folder

# A user namespace that may have no other below it, without any capability: neither the agent nor
# bubblewrap can make a mount namespace in it.
POWERLESS = [
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all "$@"',
    "sh",
]


def is_powerless() -> bool:
    """Whether this machine lets the test take namespaces away."""
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        return False
    able = subprocess.run([*POWERLESS, "true"], capture_output=True, check=False)
    refused = subprocess.run(
        [*POWERLESS, "unshare", "-rm", "true"], capture_output=True, check=False
    )
    return able.returncode == 0 and refused.returncode != 0


pytestmark = pytest.mark.skipif(not is_powerless(), reason="cannot take namespaces away here")


@pytest.fixture
def run_powerless(start_server, run_on, tmp_path):
    """Runs a command by an agent of this test's own, in that namespace."""
    server = start_server(PERIFLOW_SERVER_EXECUTOR="none")
    client = server.client()
    (tmp_path / "bin").mkdir()
    agents = []

    def run(command, *, path=None, **options):
        job = run_on(server, command, client, **options)
        while not (job.folder / "token").exists():
            job.wait("allocating", "preparing")
        agent = subprocess.Popen(
            [*POWERLESS, sys.executable, "-m", "periflow_sdk.agent", str(job.folder)],
            env={
                "PATH": path or str(tmp_path / "bin"),
                "HOME": str(tmp_path),
                "PERIFLOW_URL": server.url,
                "PERIFLOW_TOKEN_FILE": str(job.folder / "token"),
            },
            stderr=(job.folder / "agent.log").open("w"),
        )
        agents.append(agent)
        return job

    run.client = client
    # The wrapping needs its tools; the agent is to find no bubblewrap.
    for name in ("unshare", "setpriv", "sh", "bash", "sleep", "cat", "ls"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    yield run
    for agent in agents:
        agent.terminate()
        agent.wait(90)


def test_job_runs_in_real_folders(run_powerless, tmp_path):
    client = run_powerless.client
    for name in ("code", "samples"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"from {name}\n")
    snapshot = upload_folder(client, client.project, tmp_path / "samples", keep_name=False)
    data = client.create_dataset(client.project, m.DatasetCreate(name="d", snapshot_id=snapshot.id))
    job = run_powerless(
        "cat code/file $PERIFLOW_WORKSPACE_DIR/code/file $PERIFLOW_DATA_DIR/file; "
        "echo x > $CKPT_DIR/saved",
        workspace=tmp_path / "code",
        data=data,
    )
    job.wait("success")
    assert job.log == ["from code", "from code", "from samples"]
    assert (job.folder / "ckpt" / "saved").read_text() == "x\n"
    assert any("bubblewrap is not installed" in event for event in job.events)


@pytest.mark.parametrize("command", ["cd /workspace/code && ls", "echo hi > '/workspace/ckpt/f'"])
def test_command_that_names_a_mount_path_is_refused_with_what_to_do(run_powerless, command):
    job = run_powerless(command)
    detail = job.wait("failed")
    assert "cannot be made real on this machine" in detail.reason
    assert "apt-get install bubblewrap" in detail.reason
    assert job.log == []
    assert not Path("/workspace").exists()


def test_refused_bubblewrap_is_told(run_powerless):
    if not shutil.which("bwrap"):
        pytest.skip("needs bubblewrap")
    job = run_powerless("ls /workspace", path=os.environ["PATH"])
    assert "bubblewrap is refused" in job.wait("failed").reason


def test_similar_paths_are_not_taken_for_mount_paths(run_powerless):
    job = run_powerless("echo /workspaces /tmp/workspace $CKPT_DIR/workspace")
    job.wait("success")
