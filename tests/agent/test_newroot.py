"""The mount paths: made real for the command, nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.mounts import Layout, Mount
from periflow_sdk.agent.runtimes import newroot
from periflow_sdk.agent.runtimes.bubblewrap import BubblewrapRuntime
from periflow_sdk.agent.runtimes.namespace import NamespaceRuntime
from periflow_sdk.agent.training import Exit, Training

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bubblewrap")

# The interpreter may lie in a folder that only root may read.
AS_NOBODY = [
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    *("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"),
]


@pytest.fixture
def node(tmp_path):
    folder = NodeFolder.open(tmp_path / "node")
    for name in ("workspace", "ckpt", "data/0"):
        (folder / name).mkdir(parents=True)
    (folder / "data/0/sample").write_text("sample")
    return folder


def places(node: NodeFolder, data: str, prefix: Path | None = None) -> Layout:
    install = (Mount(prefix, str(prefix), node.upper("prefix")),) if prefix else ()
    return Layout(
        workspace=Mount(node / "workspace", "/workspace"),
        data=(Mount(node / "data" / "0", data, node.upper("data-0")),),
        checkpoint=Mount(node.checkpoint, "/workspace/ckpt"),
        restored=None,
        install=install,
        visible=(str(node.path),),
    )


def command(node: NodeFolder, runtime, layout: Layout, script: str) -> tuple[Exit, list[str]]:
    training = Training(node, str(node / "run"))
    plan = {**runtime.plan(layout, ["sh", "-c", script]), "grace_seconds": 2}
    training.start(plan, {"PATH": os.environ["PATH"]})
    deadline = time.monotonic() + 90
    while (end := training.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return end, node.output.read_text().splitlines()


@pytest.fixture(
    params=[NamespaceRuntime, pytest.param(BubblewrapRuntime, marks=needs_bwrap)],
    ids=["namespace", "bubblewrap"],
)
def runtime(request, node):
    if request.param is BubblewrapRuntime:
        made, fault = BubblewrapRuntime(), BubblewrapRuntime().fault()
    else:
        made = NamespaceRuntime(node)
        fault = made.try_out()()
    if fault:
        pytest.skip(fault)
    return made


def test_path_below_a_host_folder_shows_its_other_children(node, runtime, tmp_path):
    host = tmp_path / "host"
    (host / "kept").mkdir(parents=True)
    (host / "kept" / "file").write_text("kept")
    (host / "link").symlink_to("kept")
    script = f"cat {host}/new/deep/sample; echo; cat {host}/kept/file {host}/link/file; ls {host}"
    end, output = command(node, runtime, places(node, f"{host}/new/deep"), script)
    assert end == Exit(0)
    assert output == ["sample", "keptkeptkept", "link", "new"]
    assert sorted(path.name for path in host.iterdir()) == ["kept", "link"]


def test_path_that_exists_on_the_host_is_covered(node, runtime, tmp_path):
    host = tmp_path / "host"
    host.mkdir()
    (host / "hidden").touch()
    end, output = command(node, runtime, places(node, str(host)), f"ls {host}")
    assert (end, output) == (Exit(0), ["sample"])
    assert [path.name for path in host.iterdir()] == ["hidden"]


def test_signal_and_exit_code_are_those_of_the_command(node, runtime):
    script = "trap 'exit 42' TERM; echo up; kill -TERM $$; sleep 5"
    end, _ = command(node, runtime, places(node, "/workspace/data"), script)
    assert end.exit_code == 42


def test_terminate_reaches_the_command_and_not_its_wrapping(node, runtime):
    training = Training(node, str(node / "run"))
    script = "trap 'echo handler; exit 42' TERM; echo up; while :; do sleep 0.05; done"
    plan = {**runtime.plan(places(node, "/data"), ["sh", "-c", script]), "grace_seconds": 5}
    training.start(plan, {"PATH": os.environ["PATH"]})
    deadline = time.monotonic() + 90
    while not node.output.exists() or "up" not in node.output.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    training.terminate()
    while (end := training.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert end.exit_code == 42
    assert node.output.read_text().count("handler") == 1


def test_nested_namespaces_work_inside(node, tmp_path):
    runtime = NamespaceRuntime(node)
    if fault := runtime.try_out()():
        pytest.skip(fault)
    script = "unshare -m sh -c 'mount -t tmpfs tmpfs /mnt && echo nested'"
    _, output = command(node, runtime, places(node, "/data"), script)
    assert output == ["nested"]


def test_mount_that_hides_the_node_folder_keeps_what_the_job_needs(node, runtime, tmp_path):
    layout = places(node, str(tmp_path))
    end, output = command(node, runtime, layout, f"cat {tmp_path}/sample && ls {node.path}")
    assert end == Exit(0)
    assert "output.log" in output[-1] or "output.log" in output


def test_mounts_that_cannot_be_made_are_told(node):
    (node.path / "a-file").touch()
    runtime = NamespaceRuntime(node)
    if fault := runtime.try_out()():
        pytest.skip(fault)
    end, _ = command(node, runtime, places(node, f"{node.path}/a-file"), "echo never")
    assert end.exit_code == 127
    assert "could not be started" in (end.error or "")
    assert node.output.read_text() == ""


@needs_root
def test_ordinary_user_gets_the_same_root_and_no_capabilities(tmp_path):
    """The trial, the mounts and the overlay in a user namespace; the command has no powers."""
    home = Path("/tmp") / f"periflow-test-{os.getpid()}"
    home.mkdir()
    os.chown(home, 65534, 65534)
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from dataclasses import replace
from pathlib import Path
from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.mounts import Layout, Mount
from periflow_sdk.agent.runtimes.namespace import NamespaceRuntime
from periflow_sdk.agent.training import Training
node = NodeFolder.open(Path({str(home)!r}) / "node")
for name in ("workspace", "ckpt", "data"):
    (node / name).mkdir()
(node / "data/file").write_text("old")
runtime = NamespaceRuntime(node)
fault = runtime.try_out()()
if fault:
    sys.exit("refused: " + fault)
layout = Layout(Mount(node / "workspace", "/workspace"),
                (Mount(node / "data", "/workspace/data", node.upper("d")),),
                Mount(node.checkpoint, "/workspace/ckpt"), None, (), ())
training = Training(node, "/none")
shell = "echo new > data/file; touch /workspace/f; id -u; grep CapEff /proc/self/status"
plan = runtime.plan(layout, ["sh", "-c", shell])
training.start(dict(plan, grace_seconds=1), {{"PATH": "/usr/bin:/bin"}})
while training.poll() is None:
    time.sleep(0.01)
print(node.output.read_text() + (node / "data/file").read_text())
"""
    try:
        done = subprocess.run(
            [*AS_NOBODY, sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
        )
        if "refused" in done.stderr:
            pytest.skip(done.stderr.strip().splitlines()[-1])
        assert done.stdout.split() == ["65534", "CapEff:", "0000000000000000", "old"], done.stderr
    finally:
        shutil.rmtree(home)


def test_folder_of_others_is_read_only_where_no_view_of_it_can_be(node, tmp_path):
    runtime = NamespaceRuntime(node)
    if fault := runtime.try_out()():
        pytest.skip(fault)
    enter = tmp_path / "enter.py"
    enter.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(newroot.__file__).parent)!r})\n"
        "import newroot\n"
        "def refuse(*_):\n"
        "    raise OSError(95, 'no overlays here')\n"
        "newroot._mount_overlay = refuse\n"
        "enter = newroot.enter\n"
    )
    layout = places(node, "/data")
    layout = replace(layout, data=(replace(layout.data[0], shared=True),))
    script = "cat /data/sample; echo; echo new > /data/sample || echo refused"
    plan = {**runtime.plan(layout, ["sh", "-c", script]), "enter": str(enter), "grace_seconds": 2}
    training = Training(node, str(node / "run"))
    training.start(plan, {"PATH": os.environ["PATH"]})
    deadline = time.monotonic() + 90
    while training.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert node.output.read_text().startswith("sample\n")
    assert "Read-only file system" in node.output.read_text()
    assert (node / "data/0/sample").read_text() == "sample"
