"""Files up and down: against a plain copy, plain sockets, and what others use.

    python benchmarks/storage/run.py [--peers] [--rounds 3] [--mebibytes 1024] [--files 20000]

All ways take turns in each round, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from folder import compare_with_copy
from network import compare
from source import make_large, make_many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mebibytes", type=int, default=1024, help="of the large file")
    parser.add_argument("--files", type=int, default=20_000, help="how many small ones")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    parser.add_argument("--peers", action="store_true", help="measure other tools, too")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "periflow-peers",
        help="where the environments of other tools are kept",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        sources = [
            make_large(folder / "large", options.mebibytes),
            make_many(folder / "many", options.files),
        ]
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
        for line in compare_with_copy(sources, folder, options.rounds):
            print(line, flush=True)
        print()
        cache = options.cache if options.peers else None
        for line in compare(sources, folder, options.rounds, cache):
            print(line, flush=True)
        print(f"\nload {os.getloadavg()[0]:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
