"""Runs that nobody submitted: attached, killed, cut off from the server, and sent later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from local_server import host
from nursery import run

SCRIPT = Path(__file__).with_name("attached_run.py")
SAVING = Path(__file__).with_name("attached_save.py")


def start(
    stranger: Any, *options: object, script: Path = SCRIPT, **variables: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, options)],
        env={**stranger.environment, **variables},
        cwd=stranger.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def folders(stranger: Any) -> list[Path]:
    return sorted((stranger.home / "attached").glob("*"), key=lambda path: path.stat().st_ctime)


def agent_of(stranger: Any, folder: Path) -> psutil.Process | None:
    """The agent of a run, while it lives."""
    stranger.wait_until(lambda: (folder / "agent.json").exists())
    try:
        process = psutil.Process(json.loads((folder / "agent.json").read_text())["pid"])
        return process if "periflow_sdk.agent.attached" in process.cmdline() else None
    except psutil.Error:
        return None


def assert_nobody_is_left(stranger: Any) -> None:
    """No process out of this home, except the server."""

    def left() -> list[str]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if any("/attached/" in word and str(stranger.home) in word for word in words):
                found.append(" ".join(words))
        return found

    stranger.wait_until(lambda: not left(), 30, lambda: f"left behind: {left()}")


def values(stranger: Any, number: int, rank: int = 0) -> list[tuple[int, float]]:
    points = stranger.json(
        *("job", "metrics", "show", number, "--name", "value", "--limit", 1000, "--rank", rank)
    )
    return sorted((point["step"], point["value"]) for point in points)


def counted(steps: int) -> list[tuple[int, float]]:
    return [(step, step * 0.5) for step in range(1, steps + 1)]


def ready_steps(job: Any) -> list[int]:
    return sorted(c["step"] for c in job["checkpoints"] if c["status"] == "ready")


def test_a_script_that_attaches_itself_is_a_job_with_metrics_and_checkpoints(stranger) -> None:
    gate = stranger.folder / "gate"
    process = start(stranger, "--wait-for", gate)
    stranger.wait_until(lambda: (job := stranger.peek(1)) and job.step)
    (job,) = stranger.json("job", "list")
    assert (job["status"], job["vm"], job["total_steps"]) == ("running", "attached", 20)
    gate.touch()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0
    assert err.splitlines() == ["PeriFlow: this run is job 1 (attached_run): pf job view 1"]

    job = stranger.wait_for_job(1)
    assert job["status"] == "success"
    assert values(stranger, 1) == counted(20)
    assert ready_steps(job) == [10, 20]
    assert job["config"] is None or job["config"] == {"lr": 0.1}
    stranger.pf("checkpoint", "download", "latest", "-d", stranger.folder / "taken")
    assert (stranger.folder / "taken" / "state.txt").read_text() == "20\n" * 100
    assert_nobody_is_left(stranger)
    assert "pid" in out


EARLY = ("success", "finished early at step 12 of 20")


def test_a_script_that_is_done_early_is_a_success_that_says_so(stranger) -> None:
    process = start(stranger, "--enough", 12)
    process.communicate(timeout=200)
    assert process.returncode == 0
    job = stranger.wait_for_job(1)
    assert (job["status"], job["reason"]) == EARLY
    assert EARLY[1] in stranger.pf("job", "view", 1)


def test_a_killed_script_is_a_failed_job_that_has_lost_nothing(stranger) -> None:
    process = start(stranger, "--wait-for", stranger.folder / "never")
    stranger.wait_until(lambda: stranger.peek(1))
    stranger.wait_until(lambda: (stranger.folder / "checkpoints" / "state.txt").exists())
    stranger.wait_for_step(1, 19)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=200)

    job = stranger.wait_for_job(1)
    assert (job["status"], job["exit_code"]) == ("failed", None)
    assert "the process ended without finishing" in job["reason"]
    assert values(stranger, 1) == counted(19)
    assert ready_steps(job) == [10]
    assert_nobody_is_left(stranger)


def test_stop_reaches_an_attached_run(stranger) -> None:
    process = start(stranger, "--steps", 10_000, "--until-told")
    stranger.wait_until(lambda: stranger.peek(1))
    stranger.pf("job", "stop", 1, "-y")
    process.communicate(timeout=200)
    assert process.returncode == 0
    assert stranger.wait_for_job(1)["status"] == "stopped"
    assert_nobody_is_left(stranger)


def test_two_local_ranks_have_one_job_and_one_agent(stranger) -> None:
    launcher = (
        "import os, subprocess, sys\n"
        "ranks = [subprocess.Popen(sys.argv[1:], env={**os.environ, 'RANK': str(r), "
        "'LOCAL_RANK': str(r), 'WORLD_SIZE': '2', 'LOCAL_WORLD_SIZE': '2'}) for r in (0, 1)]\n"
        "sys.exit(max(rank.wait() for rank in ranks))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", launcher, sys.executable, str(SCRIPT)],
        env=stranger.environment,
        cwd=stranger.folder,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("PeriFlow:") == 1
    assert len(folders(stranger)) == 1
    job = stranger.wait_for_job(1)
    assert (job["status"], job["num_devices"], job["step"]) == ("success", 2, 20)
    assert len(stranger.json("job", "list")) == 1
    assert values(stranger, 1) == values(stranger, 1, rank=1) == counted(20)
    assert ready_steps(job) == [10, 20]
    assert_nobody_is_left(stranger)


@pytest.fixture
def remote(stranger: Any) -> Any:
    """Logged in by the server's address: nobody starts it again by itself."""
    url = stranger.json("server", "status")["url"]
    stranger.environment["PERIFLOW_URL"] = url
    words = ("login", "--username", "ada", "--password-stdin")
    stranger.pf(*words, stdin="correct horse battery")
    stranger.pf("org", "switch", "analytical")
    stranger.pf("project", "switch", "engines")
    return stranger


def server(stranger: Any, verb: str) -> None:
    here = {k: v for k, v in stranger.environment.items() if k != "PERIFLOW_URL"}
    if verb == "start":
        host(stranger.home, here)
    done = run("periflow_cli", ("server", verb), here, folder=stranger.folder)
    assert done.returncode == 0, done.stderr


def test_a_run_without_a_server_is_brought_whole_by_sync_and_only_once(remote) -> None:
    server(remote, "stop")
    process = start(remote)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0
    (folder,) = folders(remote)
    assert err.count("PeriFlow:") == 1 and f"pf job sync {folder}" in err
    agent = agent_of(remote, folder)
    if agent is not None:
        agent.terminate()
    assert_nobody_is_left(remote)

    server(remote, "start")
    first = remote.json("job", "sync", folder)
    assert (first["status"], first["checkpoints"]) == ("success", 2)
    assert first["journal_bytes"] > 1000
    second = remote.json("job", "sync", folder)
    assert (second["journal_bytes"], second["checkpoints"]) == (0, 0)
    assert "has everything already" in remote.pf("job", "sync", folder)

    job = remote.job(first["job"])
    assert len(remote.json("job", "list")) == 1
    assert values(remote, first["job"]) == counted(20)
    assert ready_steps(job) == [10, 20]
    assert_nobody_is_left(remote)


def test_a_run_that_was_done_early_is_so_when_it_is_synced(remote) -> None:
    server(remote, "stop")
    start(remote, "--enough", 12).communicate(timeout=200)
    (folder,) = folders(remote)
    agent = agent_of(remote, folder)
    if agent is not None:
        agent.terminate()
    assert_nobody_is_left(remote)
    server(remote, "start")
    job = remote.job(remote.json("job", "sync", folder)["job"])
    assert (job["status"], job["reason"]) == EARLY


def test_an_agent_that_was_killed_leaves_the_rest_to_sync(stranger) -> None:
    gate = stranger.folder / "gate"
    process = start(stranger, "--wait-for", gate)
    stranger.wait_for_step(1, 19)
    (folder,) = folders(stranger)
    agent = agent_of(stranger, folder)
    assert agent is not None
    agent.kill()
    refused = stranger.try_pf("job", "sync", folder)
    assert refused.returncode == 5 and "goes on" in refused.stderr
    gate.touch()
    process.communicate(timeout=200)

    stranger.pf("job", "sync", folder)
    job = stranger.job(1)
    assert job["status"] == "success"
    assert values(stranger, 1) == counted(20)
    assert ready_steps(job) == [10, 20]
    assert_nobody_is_left(stranger)


def memory_of(folder: Path) -> Path:
    return Path(json.loads((folder / "attached.json").read_text())["memory_dir"])


def assert_loads(stranger: Any, name: str, value: float) -> None:
    import torch

    stranger.pf("checkpoint", "download", name, "-d", stranger.folder / name)
    loaded = torch.load(stranger.folder / name / "m/model.pt", weights_only=True)["w"]
    assert loaded.eq(value).all()


@pytest.mark.parametrize("options", [[], ["--die"]])
def test_states_of_an_attached_run_are_written_and_sent_by_its_agent(stranger, options) -> None:
    process = start(stranger, *options, script=SAVING)
    out, err = process.communicate(timeout=200)
    assert process.returncode == (-signal.SIGKILL if options else 0), err
    assert out.splitlines() == ["in memory True", "by training 0"]
    job = stranger.wait_for_job(1)
    assert ready_steps(job) == [1, 2, 3]
    assert_loads(stranger, "latest", 3.0)
    assert_nobody_is_left(stranger)
    (folder,) = folders(stranger)
    assert not memory_of(folder).exists() and not (folder / "run").exists()
    again = (
        "import periflow_sdk as pf; pf.init()\n"
        "print(pf.latest_checkpoint().name, pf.current_step())"
    )
    found = subprocess.run(
        [sys.executable, "-c", again],
        env=stranger.environment,
        cwd=stranger.folder,
        capture_output=True,
        text=True,
    )
    assert found.stdout == "model.pt 3\n", found.stderr


def test_states_are_written_without_a_server_and_sent_by_sync(remote) -> None:
    import torch

    server(remote, "stop")
    out, _ = start(remote, script=SAVING).communicate(timeout=200)
    assert out.splitlines() == ["in memory True", "by training 0"]
    (folder,) = folders(remote)
    agent = agent_of(remote, folder)
    if agent is not None:
        agent.terminate()
    assert_nobody_is_left(remote)
    assert not memory_of(folder).exists() and (folder / "run").exists()
    saved = torch.load(remote.folder / "checkpoints/m/model.pt", weights_only=True)["w"]
    assert saved.eq(3.0).all()
    server(remote, "start")
    synced = remote.json("job", "sync", folder)
    assert (synced["status"], synced["checkpoints"]) == ("success", 3)
    assert_loads(remote, "latest", 3.0)
    assert not (folder / "run").exists()


@pytest.fixture
def hasty(newcomer: Any) -> Any:
    """Signed up at a server whose logins are short and which gives silent runs up soon."""
    newcomer.environment |= {
        "PERIFLOW_SERVER_ACCESS_TOKEN_SECONDS": "2",
        "PERIFLOW_SERVER_FOREIGN_LEASE_SECONDS": "2",
    }
    newcomer.settle()
    return newcomer


def login_of(stranger: Any) -> dict[str, str]:
    tokens: dict[str, str] = json.loads((stranger.home / "session.json").read_text())["local"]
    return tokens


def has_expired(login: dict[str, str]) -> bool:
    return datetime.fromisoformat(login["expires_at"]) < datetime.now(UTC)


def test_a_run_that_was_given_up_is_attached_again_by_a_login_that_has_to_be_renewed(
    hasty: Any,
) -> None:
    gate = hasty.folder / "gate"
    process = start(hasty, "--wait-for", gate)
    hasty.wait_for_step(1, 19)
    (folder,) = folders(hasty)
    agent = agent_of(hasty, folder)
    assert agent is not None
    agent.suspend()  # a laptop that sleeps
    try:
        given_up = hasty.wait_for_job(1, "failed")
        assert given_up["attempts"][0]["status"] == "node-lost"
        server(hasty, "stop")
        server(hasty, "start")
        before = login_of(hasty)
        hasty.wait_until(lambda: has_expired(before))
    finally:
        agent.resume()
    hasty.wait_until(lambda: login_of(hasty) != before)  # nobody but the agent is there to do it
    hasty.wait_for_job(1, "running")
    gate.touch()
    process.communicate(timeout=200)
    job = hasty.wait_for_job(1)
    assert job["status"] == "success" and len(hasty.json("job", "list")) == 1
    assert values(hasty, 1) == counted(20)
    assert ready_steps(job) == [10, 20]
    assert_nobody_is_left(hasty)


def test_a_login_that_has_ended_is_waited_for(hasty: Any) -> None:
    tokens = login_of(hasty)
    forged = {**tokens, "access_token": "pf_at_x", "refresh_token": "pf_rt_x"}
    (hasty.home / "session.json").write_text(json.dumps({"local": forged}))
    gate = hasty.folder / "gate"
    process = start(hasty, "--wait-for", gate)
    assert process.stderr is not None
    assert "pf job sync" in process.stderr.readline()
    words = ("login", "--username", "ada", "--password-stdin")
    hasty.pf(*words, stdin="correct horse battery")
    hasty.wait_until(lambda: hasty.peek(1))
    hasty.wait_for_job(1, "running")
    gate.touch()
    process.communicate(timeout=200)
    assert hasty.wait_for_job(1)["status"] == "success"
    assert values(hasty, 1) == counted(20)
    assert_nobody_is_left(hasty)


def test_a_local_log_becomes_one_job_that_later_lines_join(stranger) -> None:
    log = stranger.folder / "metrics.jsonl"
    code = (
        "import periflow_sdk as pf\n"
        "pf.init(local_log_name='metrics.jsonl')\n"
        "for step in range({0}, {1}):\n"
        "    with pf.train_step(): pf.metric({{'value': step * 0.5, 'bad': float('nan')}})\n"
    )

    def train(first: int, last: int) -> None:
        subprocess.run(
            [sys.executable, "-c", code.format(first, last)],
            env=stranger.environment,
            cwd=stranger.folder,
            check=True,
            capture_output=True,
        )

    train(1, 6)
    first = stranger.json("job", "sync", log)
    assert (first["name"], first["status"]) == ("metrics", "success")
    assert values(stranger, 1) == counted(5)
    assert stranger.json("job", "sync", log)["journal_bytes"] == 0

    added = {"step": 6, "time": 1.7e9, "value": 3.0}
    with log.open("a") as file:
        file.write(json.dumps(added) + '\n{"step": 7, "ti')
    assert stranger.json("job", "sync", log)["journal_bytes"] > 0
    assert values(stranger, 1) == counted(6)
    assert stranger.job(1)["step"] == 6
    assert len(stranger.json("job", "list")) == 1

    log.write_text(json.dumps({**added, "step": 1}) + "\n")
    replaced = stranger.try_pf("job", "sync", log)
    assert replaced.returncode == 5 and "periflow.json" in replaced.stderr


def test_sync_says_what_it_takes(stranger) -> None:
    (stranger.folder / "empty").mkdir()
    for wrong, said in (("empty", "not the folder of a run"), ("nowhere", "does not exist")):
        refused = stranger.try_pf("job", "sync", stranger.folder / wrong)
        assert refused.returncode == 2 and said in refused.stderr
