"""Samples a second from a store, cold and warm, by us and by others.

    python benchmarks/stream/run.py [--rounds 3] [--folder DIR] [--only NAME ...]

The readers take turns in each round; each is a process of its own with an empty cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from data import store, upload, write_layouts
from reader import READERS

HERE = Path(__file__).parent


def run(name: str, url: str, folder: Path) -> dict[str, float] | None:
    command = [sys.executable, str(HERE / "reader.py"), name, url, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        print(f"{name}: no end after 300 s", file=sys.stderr)
        return None
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the samples for next time")
    parser.add_argument("--only", nargs="+", action="extend", choices=READERS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        data = options.keep or folder / "data"
        if not data.exists():
            write_layouts(data)
        with store(folder / "store") as url:
            for layout in sorted(data.iterdir()):
                upload(url, layout)
            found: dict[str, list[dict[str, float]]] = {
                name: [] for name in options.only or READERS
            }
            for _ in range(options.rounds):
                for name, results in found.items():
                    if result := run(name, url, data):
                        results.append(result)
    print("| reader | cold, samples/s | warm, samples/s | CPU s, both epochs |")
    print("| --- | --- | --- | --- |")
    for name, results in found.items():
        if results:
            cold, warm, cpu = (
                statistics.median(result[what] for result in results)
                for what in ("cold", "warm", "cpu")
            )
            print(f"| {name} | {cold:,.0f} | {warm:,.0f} | {cpu:.1f} |")
    print(f"\nLoad: {' '.join(f'{each:.1f}' for each in os.getloadavg())}")


if __name__ == "__main__":
    main()
