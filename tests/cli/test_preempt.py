"""`pf job preempt` and the two ways to stop."""

from __future__ import annotations

import time

HANDLER = "trap 'echo saving; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def started(settled, command: str) -> int:
    number = settled.run_job(command)
    while "ready" not in settled.pf("job", "log", number):
        time.sleep(0.05)
    return number


def test_preempted_job_begins_again_and_names_the_reason(settled) -> None:
    number = started(settled, HANDLER)
    done = settled.run("job", "preempt", number)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Job {number} ")
    assert f"pf job log -f {number}" in done.stderr
    while len(attempts := settled.json("job", "view", number)["attempts"]) < 2:
        time.sleep(0.05)
    assert attempts[0]["status"] == "preempted"
    assert attempts[0]["reason"] in settled.pf("job", "view", number)
    settled.pf("job", "stop", number, "-y", "--now")
    assert settled.wait_for_job(number)["status"] == "stopped"


def test_job_that_does_not_run_is_a_conflict(settled) -> None:
    number = settled.run_job("true")
    settled.wait_for_job(number)
    done = settled.run("job", "preempt", number)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"Error: Job {number} is success, not running." in done.stderr


def test_second_stop_waits_for_nothing(settled) -> None:
    number = started(settled, DEAF)
    settled.pf("job", "stop", number, "-y")
    assert settled.json("job", "view", number)["status"] == "stopping"
    begun = time.monotonic()
    settled.pf("job", "stop", number, "-y")
    assert settled.wait_for_job(number)["attempts"][0]["exit_code"] == 137
    assert time.monotonic() - begun < 20
