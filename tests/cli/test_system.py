"""`pf job view --system`."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from waiting import wait_until

if TYPE_CHECKING:
    from conftest import Shell


def test_view_shows_machine_packages_and_code(shell: Shell) -> None:
    shell.settle()
    code = shell.folder / "code"
    code.mkdir()
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    (code / "main.py").write_text("import time; time.sleep(600)")
    for words in (("init", "-q", "-b", "trunk"), ("add", "."), ("commit", "-qm", "first")):
        subprocess.run(["git", *identity, "-C", str(code), *words], check=True)
    (code / "main.py").write_text("import time; time.sleep(601)")
    number = shell.run_job("python /workspace/code/main.py", "-d", code)

    def system():
        found = shell.json("job", "view", number)["system"]
        return found and found["nodes"] and found["nodes"][0]["packages"] and found

    found = wait_until(system)
    commit = subprocess.run(
        ["git", "-C", str(code), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    git = found["git"]
    assert (git["commit"], git["branch"], git["dirty"]) == (commit, "trunk", True)
    assert git["diff_bytes"] > 0

    view = shell.pf("job", "view", number, "--system")
    assert commit in view and "not committed" in view
    assert f"Hostname\t{found['nodes'][0]['hostname']}" in view
    assert f"psutil=={found['nodes'][0]['packages']['psutil']}" in view
    shell.pf("job", "stop", number, "-y", "--now")
    shell.wait_for_job(number)


def test_job_without_an_agent_yet_says_that_nothing_is_known(shell: Shell) -> None:
    shell.settle()
    everything = next(v["quota"] for v in shell.json("vm", "list") if v["vm"] == "local-cpu")
    shell.run_job("sleep 600", "--num-devices", everything)
    waiting = shell.run_job("true", "--num-devices", everything)
    shown = shell.run("job", "view", waiting, "--system")
    assert (shown.returncode, shown.stdout) == (0, "")
    assert "Nothing is known yet" in shown.stderr


def test_view_and_log_tell_two_nodes_apart(shell: Shell) -> None:
    shell.settle()
    file = shell.write_job(command="echo here; sleep 600", vm="local-cpu-pair", num_devices=2)
    number = shell.json("job", "run", "-f", file)["number"]
    wait_until(lambda: len(shell.pf("job", "log", number).splitlines()) == 2)
    assert sorted(shell.pf("job", "log", number).splitlines()) == ["[0] here", "[1] here"]
    assert sorted(line["node"] for line in shell.json("job", "log", number)) == [0, 1]
    view = wait_until(
        lambda: (
            "Node 1 of attempt 1" in (shown := shell.pf("job", "view", number, "--system"))
            and shown
        )
    )
    assert "Devices\t0" in view and "Devices\t1" in view and "State\trunning" in view
    shell.pf("job", "stop", number, "-y", "--now")
    shell.wait_for_job(number)
    followed = shell.pf("job", "log", "-f", number).splitlines()
    assert {"[0] here", "[1] here"} <= set(followed)
