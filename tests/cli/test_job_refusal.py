"""What a wrong job file, option or name gets: one line, and what to do."""

from __future__ import annotations

import pytest


def test_wrong_file_is_refused_with_its_place_before_anything_is_sent(settled) -> None:
    path = settled.write_job("typo.yml")
    path.write_text(path.read_text().replace("    command", "    comand"))
    done = settled.run("job", "run", "-f", path, "-d", settled.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"Error: {path}:7:5: unknown key 'comand' in job_setting.docker; did you mean 'command'?"
    ]


@pytest.mark.parametrize("top", [{"vm": None}, {"num_devices": None}])
def test_file_without_a_vm_gets_the_whole_working_line(settled, top) -> None:
    path = settled.write_job("bare.yml", "true", **top)
    done = settled.run("job", "run", "-f", path, "-d", ".")
    assert done.returncode == 2
    assert f"pf job run -f {path} -d . --vm local-cpu --num-devices 1" in done.stderr
    ran = settled.run("job", "run", "-f", path, "--vm", "local-cpu", "--num-devices", "1")
    assert ran.returncode == 0


def test_unknown_vm_gets_the_whole_working_line(settled) -> None:
    path = settled.write_job("azure.yml", vm="azure-8gpu-a100-40gb-v1", num_devices=8)
    done = settled.run("job", "run", "-f", path)
    assert done.returncode == 3
    assert "azure-8gpu-a100-40gb-v1" in done.stderr and "pf vm list" in done.stderr
    assert f"pf job run -f {path} --vm local-cpu --num-devices " in done.stderr


def test_more_devices_than_there_are_is_refused(settled) -> None:
    done = settled.run("job", "run", "-f", settled.write_job(), "--num-devices", "4096")
    assert done.returncode == 2 and "4096" in done.stderr


def test_missing_workspace_is_one_line_that_names_it(settled) -> None:
    done = settled.run("job", "run", "-f", settled.write_job(), "-d", "nowhere")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "Error: The workspace folder nowhere does not exist."


def test_unknown_dataset_is_refused_before_the_workspace_is_sent(settled) -> None:
    path = settled.write_job("data.yml", extra="data:\n  name: digts\n  mount_path: /data\n")
    before = len(settled.json("job", "list"))
    done = settled.run("job", "run", "-f", path, "-d", settled.folder / "home")
    assert done.returncode == 3
    assert "'digts'" in done.stderr and "pf dataset list" in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(settled.json("job", "list")) == before


def test_missing_job_file_names_the_command_that_writes_one(settled) -> None:
    done = settled.run("job", "run", "-f", "none.yml")
    assert done.returncode == 2
    assert "none.yml" in done.stderr and "pf job template create" in done.stderr


@pytest.mark.parametrize("words", [("view", "nope"), ("log", "999"), ("stop", "nope", "-y")])
def test_unknown_job_names_the_command_that_lists_them(settled, words) -> None:
    done = settled.run("job", *words)
    assert (done.returncode, done.stdout) == (3, "")
    assert "pf job list" in done.stderr


def test_sync_of_a_job_number_says_what_it_wants(settled) -> None:
    done = settled.run("job", "sync", "11")
    assert done.returncode == 2
    assert "DIR is a folder or file on this machine, not a job" in done.stderr
    assert "pf job view 11" in done.stderr and str(settled.home / "attached") in done.stderr


def test_unknown_checkpoint_names_the_command_that_lists_them(settled) -> None:
    none = settled.run("checkpoint", "download", "latest")
    assert none.returncode == 3
    assert "yet." in none.stderr and "CKPT_DIR" in none.stderr
    for words in (("view", "beef"), ("download", "beef")):
        done = settled.run("checkpoint", *words)
        assert done.returncode == 3
        assert "'beef'" in done.stderr and "pf checkpoint list" in done.stderr
