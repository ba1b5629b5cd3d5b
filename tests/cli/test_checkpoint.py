"""Checkpoints through `pf`."""

from __future__ import annotations

import json
from typing import Any

import pytest

TRAIN = """\
import os, pathlib
import periflow_sdk as pf
pf.init(total_train_steps=2)
for step in (1, 2):
    with pf.train_step():
        pass
    folder = pathlib.Path(os.environ["CKPT_DIR"])
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(bytes([step]) * 2_000_000)
    (folder / "sub/empty").touch()
    pf.upload_checkpoint()
pf.finish()
"""


@pytest.fixture(scope="module")
def checkpoints(settled) -> list[dict[str, Any]]:
    """Two checkpoints of one job, newest first."""
    folder = settled.folder / "saver"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    return save(settled)


def save(shell) -> list[dict[str, Any]]:
    """Run the job; its checkpoints, newest first."""
    file = shell.write_job(
        "saver.yml",
        "python /workspace/saver/train.py",
        extra="checkpoint:\n  output_checkpoint_dir: /workspace/ckpt\n",
    )
    shell.pf("job", "run", "-f", file, "-d", shell.folder / "saver", "--wait")
    found = shell.json("checkpoint", "list", "--job", "latest")
    assert isinstance(found, list)
    return found


def test_list_and_view_have_the_promised_keys(settled, checkpoints) -> None:
    assert [each["step"] for each in checkpoints] == [2, 1]
    for each in checkpoints:
        assert {"id", "job", "step", "save_type", "status", "size", "created_at"} <= set(each)
        assert (each["save_type"], each["status"]) == ("NORMAL", "ready")
    newest = settled.run("checkpoint", "list", "-l", "1", "--json")
    assert [each["step"] for each in json.loads(newest.stdout)] == [2]
    assert "older ones" in newest.stderr and "--all" in newest.stderr
    whole = settled.run("checkpoint", "list", "-l", "1", "--all", "--json")
    assert json.loads(whole.stdout) == checkpoints and "older ones" not in whole.stderr
    view = settled.json("checkpoint", "view", checkpoints[0]["id"][:10])
    assert {file["path"] for file in view["files"]} == {"weights.bin", "sub/empty"}
    assert "weights.bin (2.0 MB)" in settled.pf("checkpoint", "view", "latest")


def test_download_puts_the_files_where_it_says(settled, checkpoints, tmp_path) -> None:
    first = checkpoints[1]
    target = tmp_path / "mine"
    document = settled.json("checkpoint", "download", first["id"], "-d", target)
    assert document["path"] == str(target)
    assert (target / "weights.bin").read_bytes() == bytes([1]) * 2_000_000
    assert (target / "sub/empty").read_bytes() == b""
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_download_without_a_folder_says_which_it_made(settled, checkpoints) -> None:
    said = settled.pf("checkpoint", "download", "latest")
    name = f"checkpoint-{checkpoints[0]['job']}-step2"
    assert name in said
    assert (settled.folder / name / "weights.bin").exists()


def test_files_that_are_there_are_replaced_only_by_force(settled, checkpoints, tmp_path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("keep me")
    words = ("checkpoint", "download", checkpoints[1]["id"], "-d", target)
    settled.pf(*words)
    assert (target / "notes.txt").read_text() == "keep me"
    refused = settled.run("checkpoint", "download", checkpoints[0]["id"], "-d", target)
    assert refused.returncode == 5
    assert "weights.bin" in refused.stderr or "sub/empty" in refused.stderr
    assert (target / "weights.bin").read_bytes()[:1] == b"\x01"
    settled.pf("checkpoint", "download", checkpoints[0]["id"], "-d", target, "--force")
    assert (target / "weights.bin").read_bytes()[:1] == b"\x02"
    assert (target / "notes.txt").read_text() == "keep me"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_target_that_is_a_file_is_refused(settled, checkpoints, tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    done = settled.run("checkpoint", "download", "latest", "-d", tmp_path / "file")
    assert done.returncode == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_dry_run_fetches_nothing(settled, checkpoints, tmp_path) -> None:
    said = settled.pf("checkpoint", "download", "latest", "-d", tmp_path / "x", "--dry-run")
    assert "weights.bin (2.0 MB)" in said
    assert not (tmp_path / "x").exists()


def test_ambiguous_prefix_is_a_conflict(settled, checkpoints) -> None:
    ids = [each["id"] for each in checkpoints]
    common = ids[0][: next(i for i in range(32) if ids[0][i] != ids[1][i])]
    if common:
        assert settled.run("checkpoint", "view", common).returncode == 5


def test_delete_takes_checkpoints_and_then_the_job_with_the_rest(settled, checkpoints) -> None:
    new, old = save(settled)
    asked = settled.run("checkpoint", "delete", old["id"])
    assert asked.returncode == 2 and "--yes" in asked.stderr
    line = f"{old['id']}: job {old['job']}, step 1, 2.0 MB"
    assert line in asked.stderr
    assert settled.pf("checkpoint", "delete", old["id"][:12], "--dry-run").splitlines() == [line]
    terminal = settled.on_terminal("checkpoint", "delete", old["id"])
    terminal.expect("Delete checkpoint .*:")
    terminal.sendline("y")
    terminal.expect(f"Deleted checkpoint {old['id']}")
    terminal.wait()
    again = settled.run("checkpoint", "delete", old["id"], "-y")
    assert again.returncode == 3 and "`pf checkpoint list` lists them all" in again.stderr
    job = settled.json("job", "view", old["job"])
    assert [each["id"] for each in job["checkpoints"]] == [new["id"]]
    shown = settled.run("job", "delete", old["job"], "-y")
    assert f"Job {old['job']} ({job['name']}): success, 1 checkpoint (2.0 MB)" in shown.stderr
    assert settled.run("checkpoint", "download", new["id"]).returncode == 3
    # The newest that is left.
    assert settled.json("checkpoint", "view", "latest")["id"] == checkpoints[0]["id"]
