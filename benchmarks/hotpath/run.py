"""What the SDK costs a training loop: the calls alone, in a loop, and the import.

Everything is a ratio to a control that takes turns with it in the same run, so that a busy
machine slows both. Run it as `python benchmarks/hotpath/run.py [--json] [--folder DIR]`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import compare
from step import numpy_step, trimmed

LINE = b'{"t":"metric","s":12345,"w":1700000000.123,"m":{"loss":0.512345678,"lr":0.001}}\n'
LIMITS = {
    "P1 calls / os.write": ("<=", 10.0),
    "P1 p99 us": ("<=", 20.0),
    "P1b 20 values / json line": ("<=", 1.0),
    "P2 speed kept": (">=", 0.98),
    "finish ms": ("<=", 50.0),
    "P4 import / bare python": ("<=", 2.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--folder", type=Path, help="where the run directory is made (a disk)")
    parser.add_argument("--blocks", type=int, default=200, help="turns of the loop benchmark")
    parser.add_argument("--peers", action="store_true", help="measure what others use, too")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each peer")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "periflow-peers",
        help="where virtual environments of the peers are kept",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        pf = open_job(Path(folder))
        results = back_to_back(pf, Path(folder)) | in_a_loop(pf, Path(folder), options.blocks)
        assert pf.status().lost_records == 0
        start = time.perf_counter()
        pf.finish()
        results["finish ms"] = (time.perf_counter() - start) * 1e3
    results |= imports()
    peers = compare(options.cache, options.folder, options.rounds) if options.peers else {}
    if options.json:
        print(json.dumps({**results, "peers": peers} if peers else results, indent=2))
    else:
        show(results)
        show_peers(peers)


def back_to_back(pf: Any, folder: Path) -> dict[str, float]:
    """P1: the three calls, and one metric() of 20 values, against writes of the same lines."""
    log = os.open(folder / "control.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    loss = 0.512345678
    many = {f"value{i}": loss + i for i in range(20)}
    text = (folder / "json.log").open("w")

    def calls() -> None:
        pf.start_step()
        pf.metric({"loss": loss, "lr": 1e-3})
        pf.end_step()

    def json_line() -> None:
        text.write(json.dumps({"step": 1, "time": time.time(), **many}) + "\n")
        text.flush()

    ours, bare = take_turns(calls, lambda: os.write(log, LINE))
    wide, line = take_turns(lambda: pf.metric(many), json_line, rounds=20)
    return {
        "os.write us": statistics.median(bare),
        "os.write p99 us": p99(bare),
        "calls us": statistics.median(ours),
        "P1 p99 us": p99(ours),
        "P1 calls / os.write": statistics.median(ours) / statistics.median(bare),
        "metric of 20 us": statistics.median(wide),
        "json line of 20 us": statistics.median(line),
        "P1b 20 values / json line": statistics.median(wide) / statistics.median(line),
    }


def in_a_loop(pf: Any, folder: Path, blocks: int) -> dict[str, float]:
    """P2: a step of about 1 ms on one thread, with the calls and with an empty call.

    Blocks of 25 steps take turns, the order turned round each time.
    """
    step = numpy_step()
    log = os.open(folder / "loop.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    alone: list[float] = []

    def with_calls() -> None:
        for _ in range(25):
            pf.start_step()
            loss = step()
            pf.metric({"loss": loss, "lr": 1e-3})
            pf.end_step()

    def with_nothing() -> None:
        for _ in range(25):
            nothing({"loss": step(), "lr": 1e-3})

    def with_write() -> None:
        for _ in range(25):
            step()
            os.write(log, LINE)

    def again() -> None:
        with_nothing()

    def timed() -> None:
        for _ in range(25):
            values = {"loss": step(), "lr": 1e-3}
            start = time.perf_counter()
            pf.metric(values)
            alone.append((time.perf_counter() - start) * 1e6)

    bodies = (with_calls, with_nothing, with_write, again, timed)
    times: dict[Callable[[], None], list[float]] = {body: [] for body in bodies}
    for block in range(blocks):
        order = list(times)
        for body in order[block % len(order) :] + order[: block % len(order)]:
            start = time.perf_counter()
            body()
            times[body].append((time.perf_counter() - start) / 25)
    ours, control, write, noise, _ = (trimmed(times[body]) for body in bodies)
    return {
        "step ms": control * 1e3,
        "P2 speed kept": control / ours,
        "P2 one bare os.write keeps": control / write,
        "P2 noise (control / control)": control / noise,
        "added us a step": (ours - control) * 1e6,
        "metric in the loop us": statistics.median(alone),
        "metric in the loop p99 us": p99(alone),
    }


def imports(rounds: int = 30) -> dict[str, float]:
    """P4: a Python that imports the SDK against one that does nothing."""
    times: dict[str, list[float]] = {"pass": [], "import periflow_sdk": []}
    for _ in range(rounds):
        for code, taken in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            taken.append(time.perf_counter() - start)
    bare, ours = (statistics.median(taken) for taken in times.values())
    return {
        "bare python ms": bare * 1e3,
        "import ms": ours * 1e3,
        "P4 import / bare python": ours / bare,
    }


def open_job(folder: Path) -> Any:
    """The SDK in a job whose run directory is in this folder."""
    run_dir = folder / "run"
    run_dir.mkdir()
    os.environ.update(PERIFLOW_ENABLED="1", PERIFLOW_RUN_DIR=str(run_dir))
    import periflow_sdk as pf

    pf.init(total_train_steps=1_000_000)
    return pf


def nothing(values: dict[str, float]) -> None:
    """The empty call."""


def take_turns(
    one: Callable[[], Any], other: Callable[[], Any], rounds: int = 100, calls: int = 500
) -> tuple[list[float], list[float]]:
    """Microseconds of each call of both, in blocks that take turns."""
    clock = time.perf_counter_ns
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, times in zip((one, other), taken, strict=True):
            for _ in range(calls):
                start = clock()
                function()
                times.append((clock() - start) / 1000)
    return taken


def p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


def show(results: dict[str, float]) -> None:
    for name, value in results.items():
        limit = LIMITS.get(name)
        verdict = ""
        if limit is not None:
            sign, bound = limit
            is_kept = value <= bound if sign == "<=" else value >= bound
            verdict = f"  {'ok' if is_kept else 'MISSED'} ({sign} {bound})"
        print(f"{name:32s}{value:10.3f}{verdict}")


def show_peers(peers: dict[str, dict[str, float | str]]) -> None:
    if not peers:
        return
    columns = [*dict.fromkeys(key for row in peers.values() for key in row if key != "skipped")]
    print("\n" + "".join(f"{name:>16s}" for name in ("", *columns)))
    for name, row in peers.items():
        cells = (f"{row[key]:.3f}" if key in row else "-" for key in columns)
        text = str(row.get("skipped", "")) or "".join(f"{cell:>16s}" for cell in cells)
        print(f"{name:>16s}{text if 'skipped' not in row else '  skipped: ' + text}")


if __name__ == "__main__":
    main()
