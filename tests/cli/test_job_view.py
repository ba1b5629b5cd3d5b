"""What `pf` shows of a job: itself, its log, its metrics."""

from __future__ import annotations

import csv
import json

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
