"""Kill what can be killed, while a job runs: nothing is lost and nothing comes twice."""

from __future__ import annotations

import os
import re
import signal

import psutil


def _steps_in(log: list[str]) -> list[int]:
    return [int(found[1]) for line in log if (found := re.match(r"step (\d+) of", line))]


def _values(stranger, number: int) -> list[tuple[int, float]]:
    points = stranger.json(
        *("job", "metrics", "show", number, "--name", "value", "--limit", 100_000)
    )
    return sorted((point["step"], point["value"]) for point in points)


def _assert_complete(stranger, number: int, steps: int) -> None:
    job = stranger.wait_for_job(number)
    assert (job["status"], job["step"], job["total_steps"]) == ("success", steps, steps), job
    assert _steps_in(stranger.log(number)) == list(range(1, steps + 1))
    assert _values(stranger, number) == [(s, s * 0.5) for s in range(1, steps + 1)]
    ready = sorted(c["step"] for c in job["checkpoints"] if c["status"] == "ready")
    assert ready == list(range(10, steps + 1, 10))


def _training_pid(stranger, number: int) -> int:
    def printed_pid() -> int:
        for line in stranger.output(number):
            if found := re.match(r"training pid (\d+)", line):
                return int(found[1])
        return 0

    pid = stranger.wait_until(printed_pid)
    assert isinstance(pid, int)
    return pid


def test_server_killed_and_started_again_loses_nothing(stranger) -> None:
    gate = stranger.folder / "gate"
    number = stranger.run_counting_job("--steps 60", "--seconds 0.05", f"--wait-for {gate}")
    stranger.wait_until(lambda: len(_steps_in(stranger.output(number))) >= 15)
    training = psutil.Process(_training_pid(stranger, number))

    os.kill(stranger.server_pid(), signal.SIGKILL)
    stranger.wait_until(lambda: 59 in _steps_in(stranger.output(number)))
    assert training.is_running()
    gate.touch()

    _assert_complete(stranger, number, 60)


def test_agent_killed_and_started_again_loses_nothing(stranger) -> None:
    gate = stranger.folder / "gate"
    number = stranger.run_counting_job("--steps 60", "--seconds 0.05", f"--wait-for {gate}")
    pid = _training_pid(stranger, number)
    stranger.wait_until(lambda: len(_steps_in(stranger.output(number))) >= 15)

    first_agent = stranger.agent_pid(number)
    os.kill(first_agent, signal.SIGKILL)
    stranger.wait_until(lambda: stranger.agent_pid(number) != first_agent)
    assert psutil.pid_exists(pid)
    gate.touch()

    _assert_complete(stranger, number, 60)
    assert len(stranger.job(number)["attempts"]) == 1


def test_killed_training_is_a_failed_job_with_a_complete_journal(stranger) -> None:
    number = stranger.run_counting_job("--steps 1000", "--seconds 0.02")
    pid = _training_pid(stranger, number)
    stranger.wait_until(lambda: len(_steps_in(stranger.output(number))) >= 25)
    os.kill(pid, signal.SIGKILL)

    job = stranger.wait_for_job(number)
    assert (job["status"], job["exit_code"]) == ("failed", 137)
    assert "SIGKILL" in job["reason"]
    printed = _steps_in(stranger.log(number))
    reported = [step for step, _ in _values(stranger, number)]
    # The step under way when the signal came may have been reported and not yet printed.
    assert reported[: len(printed)] == printed == list(range(1, len(printed) + 1))
    assert len(reported) - len(printed) in (0, 1)
    view = stranger.pf("job", "view", number)
    assert "137" in view and f"step {printed[-1]} of 1000" in view


def test_metrics_that_are_not_numbers_arrive_as_such(stranger) -> None:
    number = stranger.run_counting_job("--steps 10")
    stranger.wait_for_job(number)
    points = stranger.json("job", "metrics", "show", number, "--name", "bad", "--limit", 100)
    assert [point["value"] for point in points] == ["NaN"] * 10


def test_stop_ends_the_whole_process_tree(stranger) -> None:
    (stranger.folder / "tree").mkdir()
    (stranger.folder / "tree/train.sh").write_text(
        "sleep 1000 &\n(setsid sleep 1000 &)\npython -c 'import time; time.sleep(1000)' &\n"
        "trap 'echo saving; exit 0' TERM\necho ready\nwait\n"
    )
    template = stranger.folder / "tree.yml"
    template.write_text(
        "vm: local-cpu\nnum_devices: 1\njob_setting:\n  type: custom\n  docker:\n"
        "    image: none\n    command: bash /workspace/tree/train.sh\n"
    )
    number = stranger.json("job", "run", "-f", template, "-d", stranger.folder / "tree")["number"]
    stranger.wait_until(lambda: "ready" in stranger.output(number))
    agent = psutil.Process(stranger.agent_pid(number))
    tree = [p for p in _below(stranger) if p != agent]
    assert len([p for p in tree if "1000" in " ".join(p.cmdline())]) >= 3

    stranger.pf("job", "stop", number, "-y")

    job = stranger.wait_for_job(number)
    assert job["status"] == "stopped"
    assert "saving" in stranger.log(number)
    stranger.wait_until(lambda: not [p for p in tree if p.is_running()])


def _below(stranger) -> list[psutil.Process]:
    """The processes of this home's jobs: whatever has the job's environment."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("PERIFLOW_TOKEN_FILE", "").startswith(str(stranger.home)):
            found.append(process)
    return found


def test_jobs_wait_for_free_devices_in_order(stranger) -> None:
    gate = stranger.folder / "gate"
    (vm,) = [v for v in stranger.json("vm", "list") if v["vm"] == "local-cpu"]
    first = stranger.run_counting_job("--steps 3", f"--wait-for {gate}", devices=vm["quota"])
    second = stranger.run_counting_job("--steps 3", devices=vm["quota"])
    third = stranger.run_counting_job("--steps 3")
    stranger.wait_for_job(first, "running")
    assert [stranger.job(n)["status"] for n in (second, third)] == ["waiting", "waiting"]
    gate.touch()

    finished = [stranger.wait_for_job(n) for n in (first, second, third)]
    assert [job["status"] for job in finished] == ["success"] * 3
    assert finished[1]["started_at"] <= finished[2]["started_at"]


def test_a_command_that_fails_shows_its_code_and_last_lines(stranger) -> None:
    (stranger.folder / "broken").mkdir()
    (stranger.folder / "broken/main.py").write_text("print('about to fail')\nraise SystemExit(3)\n")
    template = stranger.folder / "broken.yml"
    template.write_text(
        "vm: local-cpu\nnum_devices: 1\njob_setting:\n  type: custom\n  docker:\n"
        "    image: none\n    command: python /workspace/broken/main.py\n"
    )
    done = stranger.try_pf("job", "run", "-f", template, "-d", stranger.folder / "broken", "--wait")
    assert done.returncode == 8
    job = stranger.job("latest")
    assert (job["status"], job["exit_code"]) == ("failed", 3)
    assert "about to fail" in stranger.pf("job", "view", "latest")
