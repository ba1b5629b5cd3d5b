"""Jobs through `pf`, in a pipe, against a real server that runs them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest


def test_failed_job_is_exit_8_and_shows_code_and_last_lines(settled) -> None:
    file = settled.write_job("failing.yml", "echo so far so good; exit 3")
    done = settled.run("job", "run", "-f", file, "--wait")
    assert done.returncode == 8
    job = settled.json("job", "view", "latest")
    title = f"Job {job['number']} ({job['name']})"
    assert f"{title} is submitted.\n" in done.stdout
    assert f"{title} failed: exited with code 3.\n" in done.stderr
    assert (job["status"], job["exit_code"]) == ("failed", 3)
    view = settled.pf("job", "view", "latest")
    assert "Exit code\t3" in view and view.rstrip().endswith("so far so good")


def test_wait_with_json_is_one_document_and_the_log_beside_it(settled) -> None:
    file = settled.write_job("json.yml", "echo to the side")
    done = settled.run("job", "run", "-f", file, "--wait", "--json")
    assert json.loads(done.stdout)["status"] == "success"
    assert "to the side" in done.stderr


@pytest.mark.parametrize("name", ["latest", "007"])
def test_name_that_means_another_job_is_refused(settled, name: str) -> None:
    done = settled.run("job", "run", "-f", settled.write_job(), "--name", name)
    assert done.returncode == 2 and "The name of a job may not be" in done.stderr
    file = settled.write_job("taken.yml", extra=f"name: {json.dumps(name)}\n")
    done = settled.run("job", "run", "-f", file)
    assert done.returncode == 2 and f"{file}:8:7: name may not be" in done.stderr


def test_file_with_a_workspace_needs_its_folder(settled) -> None:
    file = settled.write_job("roomy.yml", extra="  workspace:\n    mount_path: /workspace\n")
    done = settled.run("job", "run", "-f", file)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "Error: The job file has a workspace: give its folder with -d DIR.",
        f"Hint: pf job run -f {file} -d .",
    ]


def test_large_workspace_is_named_with_the_way_to_leave_it_out(settled, tmp_path) -> None:
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(120_000_000)
    done = settled.run("job", "run", "-f", settled.write_job(), "-d", tmp_path, "--dry-run")
    assert "weights.bin (120.0 MB)" in done.stderr and ".pfignore" in done.stderr
    (tmp_path / ".pfignore").write_text("weights.bin\n")
    done = settled.run("job", "run", "-f", settled.write_job(), "-d", tmp_path, "--dry-run")
    assert "Warning" not in done.stderr


def test_silent_job_is_said_to_be_silent(settled) -> None:
    number = settled.run_job("exit 3")
    settled.wait_for_job(number)
    assert f"Job {number} failed and printed nothing.\n" in settled.run("job", "log", number).stderr


def test_name_option_names_the_job(settled) -> None:
    file = settled.write_job("named.yml", "true", extra="name: from-the-file\n")
    job = settled.json("job", "run", "-f", file, "--name", "from-the-option")
    assert job["name"] == "from-the-option"


@pytest.mark.parametrize("option", ["-d", "-w", "--workspace-dir"])
def test_workspace_keeps_its_name_by_every_spelling(settled, option: str) -> None:
    folder = settled.folder / "my code"
    folder.mkdir(exist_ok=True)
    (folder / "main.sh").write_text("echo found it")
    file = settled.write_job("space.yml", 'bash "/workspace/my code/main.sh"')
    assert "found it" in settled.pf("job", "run", "-f", file, option, folder, "--wait")


def test_stop_asks_and_ends_the_job(settled) -> None:
    number = settled.run_job("echo up; sleep 1000")
    settled.wait_for_job(number, "running")
    asked = settled.run("job", "stop", number)
    assert asked.returncode == 2 and "--yes" in asked.stderr
    settled.pf("job", "stop", number, "-y")
    assert settled.wait_for_job(number)["status"] == "stopped"
    again = settled.run("job", "stop", number)
    assert again.returncode == 5 and "has ended already: stopped" in again.stderr


def test_delete_shows_what_goes_asks_and_takes_several(settled) -> None:
    ended, running = settled.run_job("true", "-n", "short"), settled.run_job("sleep 1000")
    settled.wait_for_job(ended)
    refused = settled.run("job", "delete", ended, running, "-y")
    assert refused.returncode == 5
    assert "is deleted only when it has ended. None was deleted." in refused.stderr
    assert f"Hint: Stop it first: `pf job stop {running}`." in refused.stderr
    settled.pf("job", "stop", running, "--now", "-y")
    settled.wait_for_job(running)
    asked = settled.run("job", "delete", "short")
    assert asked.returncode == 2 and "--yes" in asked.stderr
    shown = settled.pf("job", "delete", "short", running, "--dry-run").splitlines()
    assert shown[0] == f"Job {ended} (short): success, no checkpoints"
    assert shown[1].startswith(f"Job {running} (") and "): stopped," in shown[1]
    assert settled.json("job", "view", "short")["number"] == ended
    gone = settled.json("job", "delete", "short", ended, running, "-f")
    assert [(each["number"], each["checkpoint_count"]) for each in gone] == [
        (ended, 0),
        (running, 0),
    ]
    for words in (("view",), ("log",), ("metrics", "list"), ("delete", "-y")):
        missing = settled.run("job", *words, ended)
        assert missing.returncode == 3 and "`pf job list` lists them all" in missing.stderr
    assert {each["number"] for each in settled.json("job", "list")}.isdisjoint({ended, running})
    assert settled.run_job("true") > running


def test_followed_log_goes_on_after_the_server_was_killed(settled) -> None:
    gate = settled.folder / "gate"
    wait = f"while [ ! -e {gate} ]; do sleep 0.1; done"
    command = f"for i in 1 2 3; do echo line $i; done; {wait}; echo line 4"
    number = settled.run_job(command)
    following = settled.start("job", "log", "-f", number)
    assert following.stdout is not None
    first = [following.stdout.readline() for _ in range(3)]
    os.kill(settled.json("server", "status")["pid"], signal.SIGKILL)
    gate.touch()
    rest, said = following.communicate(timeout=200)
    assert following.returncode == 0, said
    assert [*first, *rest.splitlines(keepends=True)] == [f"line {i}\n" for i in range(1, 5)]
    assert "does not answer" in said and "Started the local PeriFlow server" in said


def test_following_a_waiting_job_says_why_it_waits(settled) -> None:
    (vm,) = [each for each in settled.json("vm", "list") if each["vm"] == "local-cpu"]
    hog = settled.json(
        *("job", "run", "-f", settled.write_job("hog.yml", "sleep 1000")),
        *("--num-devices", vm["quota"]),
    )["number"]
    number = settled.run_job("echo at last")
    following = settled.start("job", "log", "-f", number)
    assert following.stderr is not None
    assert f"Job {number} is waiting" in following.stderr.readline()
    settled.pf("job", "stop", hog, "-y")
    out, _ = following.communicate(timeout=200)
    assert out == "at last\n"


def test_dry_run_makes_no_job(settled) -> None:
    before = len(settled.json("job", "list"))
    folder = settled.folder / "dry"
    folder.mkdir()
    (folder / "a.py").write_text("pass")
    document = settled.json("job", "run", "-f", settled.write_job(), "-d", folder, "--dry-run")
    assert document["workspace"]["file_count"] == 1
    assert document["spec"]["vm"] == "local-cpu"
    assert len(settled.json("job", "list")) == before


def test_template_is_not_overwritten_and_asks_for_nothing(settled) -> None:
    script = settled.folder / "it's here" / "my train.py"
    script.parent.mkdir()
    script.write_text("print('from', __file__)")
    line = settled.pf("job", "template", "create", "--script", script).splitlines()[-1]
    assert settled.run("job", "template", "create", "--script", script).returncode == 5
    settled.pf("job", "template", "create", "--script", script, "--force")
    swapped = settled.run("job", "template", "create", "-s", "job.yml")
    assert swapped.returncode == 2 and "-s train.py -o job.yml" in swapped.stderr
    missing = settled.run("job", "template", "create")
    assert missing.returncode == 2 and "--script" in missing.stderr
    import shlex

    words = shlex.split(line)
    assert words[:3] == ["pf", "job", "run"]
    assert "my train.py" in settled.pf(*words[1:], "--wait")


def test_job_runs_with_pf_s_own_python_where_the_shell_s_lacks_the_sdk(settled, tmp_path) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "python").write_text("#!/bin/sh\necho /fake/python\necho /fake\necho False\n")
    (fake / "python").chmod(0o755)
    file = settled.write_job("which.yml", "command -v python; echo $MY_PATH")
    path = f"{fake}{os.pathsep}{settled.env['PATH']}"
    own = settled.pf("job", "run", "-f", file, "--wait", PATH=path)
    assert str(Path(settled.env["PATH"].split(os.pathsep)[0]) / "python") in own
    activated = settled.run("job", "run", "-f", file, "--wait", PATH=path, VIRTUAL_ENV=str(fake))
    assert f"{fake}/python" in activated.stdout
    assert "cannot import periflow_sdk" in activated.stderr
