"""Starts the job's command, outlives the agent, and leaves the exit status behind.

Run as ``python -I -S shim.py PLAN`` with the job's environment. It needs the standard library
alone and stays small, because it lives as long as the training. PLAN is a JSON file:

    argv, cwd            what to run and where
    enter, mounts        a Python file whose ``enter(mounts)`` changes the root, and its argument
    locks                open files whose flocks this process holds as long as it lives
    folder               the node folder: output.log, training.json, exit.json, stopping
    grace_seconds        how long leftover processes may take after a SIGTERM
    probe                true: enter, run nothing, exit with 0 where that worked
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, NoReturn

PR_SET_CHILD_SUBREAPER = 36
READY, TROUBLE = b"+", b"!"
_LEFTOVER_SECONDS = 5.0


def main(plan_path: str) -> int:
    """Run the plan; the exit code is 0 once exit.json is written."""
    with open(plan_path, encoding="utf-8") as file:  # noqa: PTH123 (pathlib costs as much as all else)
        plan: dict[str, Any] = json.load(file)
    if plan.get("probe"):
        return _probe(plan)
    for lock in plan["locks"]:
        os.set_inheritable(lock, False)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _become_subreaper()
    status, error = _run(plan)
    _end_leftovers(plan)
    _write(f"{plan['folder']}/exit.json", _exit_record(status, error))
    return 0


def _probe(plan: dict[str, Any]) -> int:
    try:
        _enter(plan)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201 (the agent reads it)
        return 1
    return 0


def _run(plan: dict[str, Any]) -> tuple[int, str | None]:
    """Fork, let the child enter its root, record it, let it go; its wait status and any error.

    The command runs only after training.json is there: an agent that finds neither it nor a
    living shim knows that nothing ran.
    """
    trouble_read, trouble_write = os.pipe()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(trouble_read)
        os.close(go_write)
        _become_command(plan, trouble_write, go_read)
    os.close(trouble_write)
    os.close(go_read)
    if os.read(trouble_read, 1) == READY:
        _write(f"{plan['folder']}/training.json", _identity(child))
        os.write(go_write, READY)
    error = _read_all(trouble_read).lstrip(TROUBLE)
    os.close(go_write)
    return _wait(child), error.decode("utf-8", "replace") or None


def _become_command(plan: dict[str, Any], trouble: int, go: int) -> NoReturn:
    try:
        os.setsid()
        _redirect(f"{plan['folder']}/output.log")
        _enter(plan)
        os.chdir(plan["cwd"])
        os.write(trouble, READY)
        if os.read(go, 1) != READY:
            os._exit(1)
        _default_signals()
        os.umask(0o022)  # the server's own is stricter, and files that a job writes are the user's
        os.execvp(plan["argv"][0], plan["argv"])
    except BaseException as error:
        os.write(trouble, TROUBLE + str(error).encode("utf-8", "replace"))
    os._exit(127)


def _enter(plan: dict[str, Any]) -> None:
    if not plan.get("enter"):
        return
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("enter", plan["enter"])
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.enter(plan["mounts"])


def _redirect(output: str) -> None:
    """Appending straight to the file: a pipe would need a reader that may be killed."""
    log = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _default_signals() -> None:
    """Ignored signals stay ignored over exec, and Python ignores some at start."""
    for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def _wait(child: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def _end_leftovers(plan: dict[str, Any]) -> None:
    """SIGTERM to what the command left running, then SIGKILL.

    When a stop is under way the agent has sent the SIGTERM, and the job's grace counts.
    """
    stopping = os.path.exists(f"{plan['folder']}/stopping")  # noqa: PTH110
    patience = float(plan["grace_seconds"]) if stopping else _LEFTOVER_SECONDS
    deadline = time.monotonic() + patience
    told: set[int] = set()
    while left := _descendants():
        late = time.monotonic() >= deadline
        for pid in left:
            if late:
                _kill(pid, signal.SIGKILL)
            elif pid not in told and not stopping:
                told.add(pid)
                _kill(pid, signal.SIGTERM)
        _reap()
        time.sleep(0.02)
    _reap()


def _descendants() -> list[int]:
    """Every process below this one. Orphans come here, as this process is their subreaper."""
    parents = _parents()
    found = {os.getpid()}
    grew = True
    while grew:
        below = {pid for pid, parent in parents.items() if parent in found} - found
        found |= below
        grew = bool(below)
    return sorted(found - {os.getpid()})


def _parents() -> dict[int, int]:
    parents = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            fields = _stat(int(name))
            if fields and fields[0] != "Z":
                parents[int(name)] = int(fields[1])
    return parents


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name (which may hold spaces), or nothing."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _identity(pid: int) -> dict[str, Any]:
    """What tells this process from a later one with its number, also after a reboot."""
    ticks = int((_stat(pid) or ["0"] * 20)[19])
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123
        boot = next(float(line.split()[1]) for line in file if line.startswith("btime"))
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
        boot_id = file.read().strip()
    start = boot + ticks / os.sysconf("SC_CLK_TCK")
    return {
        "pid": pid,
        "start_time": start,
        "start_ticks": ticks,
        "boot_id": boot_id,
        "shim_pid": os.getpid(),
    }


def _exit_record(status: int, error: str | None) -> dict[str, Any]:
    code = os.waitstatus_to_exitcode(status)
    record: dict[str, Any] = {
        "exit_code": code if code >= 0 else 128 - code,
        "signal": -code if code < 0 else None,
    }
    if error:
        record["error"] = error
    return record


def _write(path: str, document: dict[str, Any]) -> None:
    with open(f"{path}.new", "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(document, file)
    os.replace(f"{path}.new", path)  # noqa: PTH105


def _read_all(descriptor: int) -> bytes:
    text = b""
    while part := os.read(descriptor, 4096):
        text += part
    return text


def _become_subreaper() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
