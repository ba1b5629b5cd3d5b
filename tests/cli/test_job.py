"""Jobs through `pf`, in a pipe, against a real server that runs them."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest
from event_files import read_events, texts

METRICS = """\
import periflow_sdk as pf
pf.init(total_train_steps=20)
for i in range(20):
    with pf.train_step():
        pf.metric({"loss": 1 / (i + 1), "accuracy": i / 20, "phase": "train"})
    print("step", i + 1, flush=True)
"""


@pytest.fixture(scope="module")
def trained(settled) -> int:
    """A job that has reported metrics and ended well."""
    folder = settled.folder / "trained"
    folder.mkdir()
    (folder / "train.py").write_text(METRICS)
    (folder / ".env").write_text("SECRET=1\n")
    settled.pf("job", "template", "create", "--script", "trained/train.py")
    done = settled.run(*("job", "run", "-f", "trained/pf-template.yml", "-d", "trained", "--wait"))
    assert done.returncode == 0, done.stderr
    assert "Left out, as it looks secret: .env" in done.stderr
    assert "step 20" in done.stdout
    number = settled.json("job", "view", "latest")["number"]
    assert isinstance(number, int)
    return number


def test_view_has_the_promised_keys(settled, trained: int) -> None:
    job = settled.json("job", "view", trained)
    assert {
        *("number", "name", "status", "reason", "exit_code", "step", "total_steps"),
        *("attempts", "events", "checkpoints"),
    } <= set(job)
    assert (job["status"], job["exit_code"]) == ("success", 0)
    assert (job["step"], job["total_steps"]) == (20, 20)
    assert job["created_at"].endswith("Z")


def test_jobs_are_found_by_number_name_latest_and_id_prefix(settled, trained: int) -> None:
    job = settled.json("job", "view", trained)
    for reference in (job["name"], job["id"], job["id"][:8]):
        assert settled.json("job", "view", reference)["number"] == trained


def test_list_has_the_columns_of_the_original(settled, trained: int) -> None:
    header, *rows = settled.pf("job", "list").splitlines()
    assert header.split("\t") == [
        *("Number", "Name", "Status", "VM", "Device", "Device Cnt", "Data", "Created by"),
        *("Start", "Duration", "Progress"),
    ]
    assert any(row.startswith(f"{trained}\ttrain\tsuccess\tlocal-cpu") for row in rows)
    assert isinstance(settled.json("job", "list"), list)


def test_list_takes_the_filters_of_the_original(settled, trained: int) -> None:
    fits = ("--status", "success", "--job-name", "train", "--vm", "local-cpu", "--mine")
    times = ("--since", "2022-07-01T12:00:00", "--until", "2100-01-01")
    jobs = settled.json("job", "list", "-a", *fits, *times, "-l", "1")
    assert [job["name"] for job in jobs] == ["train"]
    assert settled.json("job", "list", "--until", "2022-07-01T12:00:00") == []
    refused = settled.run("job", "list", "--since", "yesterday")
    assert refused.returncode == 2
    assert "--since: 'yesterday' is no time" in refused.stderr


def test_log_gives_the_last_lines_and_one_document(settled, trained: int) -> None:
    assert settled.pf("job", "log", trained, "-n", "2").splitlines() == ["step 19", "step 20"]
    lines = settled.json("job", "log", trained)
    assert [line["text"] for line in lines][-1] == "step 20"
    stamped = settled.pf("job", "log", trained, "-n", "1", "-t")
    assert stamped[4] == "-" and stamped.endswith(" step 20\n")


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (("--head", "-n", 2), [1, 2]),
        (("-c", "step 1"), [1, *range(10, 20)]),
        (("-c", "step 1", "-n", 3), [17, 18, 19]),
        (("--head", "-c", "step 1", "-n", 3), [1, 10, 11]),
        (("-m", "0,3", "-n", 1), [20]),
        (("-m", "1"), []),
        (("-f", "-c", "step 2"), [2, 20]),
    ],
)
def test_log_selects_lines(settled, trained: int, words, steps: list[int]) -> None:
    done = settled.run("job", "log", trained, *words)
    assert done.stdout.splitlines() == [f"step {step}" for step in steps]
    assert ("No line is like that." in done.stderr) is (not steps)


def test_log_is_exported_whole(settled, trained: int) -> None:
    done = settled.run("job", "log", trained, "-e", "job.txt", "--show-machine-id")
    assert "Wrote 20 lines to job.txt." in done.stderr and not done.stdout
    lines = (settled.folder / "job.txt").read_text().splitlines()
    assert lines == [f"[0] step {step}" for step in range(1, 21)]
    settled.pf("job", "log", trained, "-e", "job.jsonl", "--json", "-n", 1)
    assert json.loads((settled.folder / "job.jsonl").read_text())["text"] == "step 20"
    assert sorted(path.name for path in settled.folder.glob("*job*")) == ["job.jsonl", "job.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-f", "--head"), "--follow does not go together with --head"),
        (("-f", "-e", "x"), "--follow does not go together with --head or --export-path"),
        (("-m", "first"), "--machine 'first' is no list of node ranks"),
        (("-e", "nowhere/x"), "nowhere/x cannot be written: No such file or directory"),
    ],
)
def test_log_refuses_what_it_cannot_do(settled, trained: int, words, message: str) -> None:
    done = settled.run("job", "log", trained, *words)
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_followed_log_of_an_ended_job_ends(settled, trained: int) -> None:
    done = settled.run("job", "log", "-f", trained)
    assert len(done.stdout.splitlines()) == 20
    assert done.stderr.splitlines()[0] == f"Job {trained} (train) succeeded."
    objects = settled.pf("job", "log", "-f", trained, "--json").splitlines()
    assert json.loads(objects[0])["text"] == "step 1"


def test_metrics_are_listed_shown_and_drawn(settled, trained: int) -> None:
    names = {each["name"]: each for each in settled.json("job", "metrics", "list", trained)}
    assert set(names) == {"loss", "accuracy", "phase"}
    shown = settled.json("job", "metrics", "show", trained, "--name", "accuracy", "--limit", "3")
    assert [(point["step"], point["value"]) for point in shown] == [
        (18, 17 / 20),
        (19, 18 / 20),
        (20, 19 / 20),
    ]
    plot = settled.pf("job", "metrics", "plot", trained)
    assert plot.isascii() and "loss" in plot and plot.count("*") > 10
    (series,) = settled.json("job", "metrics", "plot", trained)
    assert (series["name"], len(series["values"])) == ("loss", 20)
    both = settled.pf("job", "metrics", "plot", trained, "--name", "loss", "--name", "accuracy")
    assert "o" in both and "accuracy" in both
    wrong = settled.run("job", "metrics", "show", trained, "--name", "los")
    assert wrong.returncode == 3 and "Did you mean loss?" in wrong.stderr


def test_metrics_are_exported_for_other_programs(settled, trained: int) -> None:
    export = ("job", "metrics", "export", trained)
    rows = list(csv.DictReader(settled.pf(*export).splitlines()))
    assert len(rows) == 60 and set(rows[0]) == {"name", "rank", "step", "time", "value"}
    losses = [float(row["value"]) for row in rows if row["name"] == "loss"]
    assert losses == [1 / (i + 1) for i in range(20)]
    lines = settled.pf(*export, "--format", "jsonl", "--name", "phase").splitlines()
    assert [json.loads(line)["value"] for line in lines] == ["train"] * 20
    assert [json.loads(line) for line in lines] == settled.json(*export, "--name", "phase")
    assert settled.pf(*export, "-o", "metrics.csv") == ""
    assert len((settled.folder / "metrics.csv").read_text().splitlines()) == 61
    misnamed = settled.run(*export, "--format", "tensorboard")
    assert misnamed.returncode == 2 and "--tensorboard DIR" in misnamed.stderr
    lost = settled.run(*export, "-o", "nowhere/metrics.csv")
    assert (lost.returncode, lost.stderr) == (2, "Error: There is no folder nowhere.\n")
    for _ in range(2):  # the second time takes the place of the first
        done = settled.run(*export, "--tensorboard", "board", "--system")
        assert done.returncode == 0 and "tensorboard --logdir board" in done.stderr
    (run,) = (settled.folder / "board").iterdir()
    assert run.name == f"{trained}-train"
    events = read_events(run)
    points = events.Scalars("loss")
    assert [point.step for point in points] == list(range(1, 21))
    assert [point.value for point in points] == pytest.approx(losses)
    assert events.Scalars("system/memory_bytes") and texts(events, "phase")[0] == (1, "train")
    both = settled.run(*export, "--tensorboard", "board", "--format", "csv")
    assert both.returncode == 2 and "--tensorboard" in both.stderr


TWO_RANKS = """\
import os, subprocess, sys
if "RANK" not in os.environ:
    for rank in "01":
        environment = {**os.environ, "RANK": rank}
        subprocess.run([sys.executable, *sys.argv], env=environment, check=True)
    sys.exit()
import periflow_sdk as pf
pf.init(total_train_steps=3)
for step in range(3):
    with pf.train_step():
        pf.metric({"loss": step + 10 * int(os.environ["RANK"])})
if os.environ["RANK"] == "1":
    pf.metric({"second": 1})
"""


def test_metrics_of_ranks_are_shown_for_one_for_all_or_as_their_mean(settled) -> None:
    (settled.folder / "ranks").mkdir()
    (settled.folder / "ranks/train.py").write_text(TWO_RANKS)
    file = settled.write_job("ranks.yml", "python /workspace/ranks/train.py")
    done = settled.run("job", "run", "-f", file, "-d", "ranks", "--wait")
    assert done.returncode == 0, done.stderr

    def values(*options: str) -> list[tuple[int | None, float]]:
        shown = settled.json("job", "metrics", "show", "latest", "--name", "loss", *options)
        return [(point["rank"], point["value"]) for point in shown]

    assert values() == values("--rank", "0") == [(0, 0), (0, 1), (0, 2)]
    assert values("--rank", "1") == [(1, 10), (1, 11), (1, 12)]
    assert values("--all-ranks") == values() + values("--rank", "1")
    assert values("--mean") == [(None, 5), (None, 6), (None, 7)]
    table = settled.pf("job", "metrics", "show", "latest", "--all-ranks").splitlines()
    assert table[0].split("\t")[:3] == ["Name", "Rank", "Step"] and len(table) == 1 + 6 + 1
    assert "second" not in settled.pf("job", "metrics", "show", "latest")
    plot = settled.pf("job", "metrics", "plot", "latest", "--all-ranks")
    assert "loss (rank 0)" in plot and "loss (rank 1)" in plot
    assert "*" in settled.pf("job", "metrics", "plot", "latest", "--mean")
    settled.pf("job", "metrics", "export", "latest", "--all-ranks", "--tensorboard", "ranks-board")
    (run,) = (settled.folder / "ranks-board").iterdir()
    assert [point.value for point in read_events(run / "rank-1").Scalars("loss")] == [10, 11, 12]
    both = settled.run("job", "metrics", "show", "latest", "--mean", "--rank", "1")
    assert both.returncode == 2 and "--all-ranks" in both.stderr


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


# What a wrong job file or option gets.


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
