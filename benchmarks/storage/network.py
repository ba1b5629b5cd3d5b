"""Up and down over HTTP, in turns with what others use and with plain sockets."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from limit import PART_BYTES
from place import KEYS, Place, control_plane, seaweedfs, sink
from source import Source, warm_page_cache

CLIENT = Path(__file__).with_name("client.py")
LIMITS = ("multipart", "raw", "sendfile")
OF_ONE_FILE = ("multipart", "sendfile")
OURS = (*LIMITS, "periflow")
PEERS = ("obstore", "s5cmd", "boto3", "s3fs", "awscli")
INSTALL_SECONDS = 300.0  # of all peers together
TURN_SECONDS = 900.0
QUARTERS, SMALL_PIECES = 4, 48
Row = dict[str, float]


@dataclass
class Comparison:
    """The turns of all tools at one place with one source."""

    place: Place
    source: Source
    taken: dict[tuple[str, str], list[Row]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def round(self, number: int, pythons: dict[str, Path], folder: Path) -> None:
        """Every tool takes the source up and down once."""
        # Who comes first rotates: a server that was idle, or is new, is slower to begin with.
        turns = list(pythons.items())
        first = number % len(turns)
        for name, python in (*turns[first:], *turns[:first]):
            if name in self.skipped or (name in OF_ONE_FILE and not self._is_large):
                continue
            target = folder / "back"
            try:
                self._turn(name, python, number, target)
            except (OSError, subprocess.SubprocessError, AssertionError) as error:
                self.skipped[name] = _last_words(error)
            finally:
                shutil.rmtree(target, ignore_errors=True)
                self.place.clear()

    def _turn(self, name: str, python: Path, number: int, target: Path) -> None:
        words = self._words(name, number)
        target.mkdir()
        up = self._run(name, python, "up", self.source.folder, words["up"])
        if snapshot := str(up.pop("result")):
            words["down"].append(snapshot)
        down = self._run(name, python, "down", target, words["down"])
        del down["result"]
        assert self.source.is_same(target), "what came back differs"
        self.taken.setdefault((name, "up"), []).append(up)
        self.taken.setdefault((name, "down"), []).append(down)

    def _words(self, name: str, number: int) -> dict[str, list[str]]:
        """What a tool needs to know besides the folder: addresses, or the project."""
        parts = -(-self.source.size // PART_BYTES) if self._is_large else SMALL_PIECES
        if name == "multipart":
            whole = "raw/whole"
            return {
                "up": self.place.sign_parts(whole, parts),
                "down": self.place.sign("GET", [whole]),
            }
        if name in LIMITS:
            pieces = QUARTERS if name == "sendfile" else parts
            keys = [f"raw/{piece:03}" for piece in range(pieces)]
            return {way: self.place.sign(m, keys) for way, m in (("up", "PUT"), ("down", "GET"))}
        if name == "periflow":
            project = self.place.project(f"{self.source.label}-{number}")
            return {"up": [project], "down": [project]}
        return {"up": [], "down": []}

    def _run(self, name: str, python: Path, way: str, folder: Path, words: list[str]) -> Row:
        warm_page_cache(folder.parent, self.source.size)
        variables = {
            **os.environ,
            **KEYS,
            "BENCH_ENDPOINT": self.place.endpoint,
            "BENCH_URL": self.place.url,
            "BENCH_TOKEN": self.place.token,
            "BENCH_LAYOUT": json.dumps(self.source.layout),
        }
        done = subprocess.run(
            [str(python), str(CLIENT), name, way, str(folder), *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=TURN_SECONDS,
            env=variables,
        )
        row: Row = json.loads(done.stdout.splitlines()[-1])
        return row

    @property
    def _is_large(self) -> bool:
        return len(self.source.layout) == 1

    def rows(self) -> Iterator[str]:
        names = dict.fromkeys(name for name, _ in self.taken)
        for name in names:
            cells = []
            for way in ("up", "down"):
                seconds = self._median(name, way, "seconds")
                limits = [self._median(limit, way, "seconds") / seconds for limit in LIMITS]
                cells += [f"{seconds:.2f}", *(_shown(each) for each in limits)]
            cells += [f"{self._median(name, way, 'cpu'):.2f}" for way in ("up", "down")]
            cells += [f"{self._median(name, way, 'added'):.0f}" for way in ("up", "down")]
            yield f"| {self.place.name} | {self.source.name} | {name} | {' | '.join(cells)} |"
        for name, why in self.skipped.items():
            yield f"| {self.place.name} | {self.source.name} | {name} | skipped: {why} |"

    def _median(self, name: str, way: str, what: str) -> float:
        rows = self.taken.get((name, way), [])
        return statistics.median(row[what] for row in rows) if rows else float("nan")


def compare(sources: list[Source], folder: Path, rounds: int, cache: Path | None) -> Iterator[str]:
    """The lines of a table.

    Args:
        cache: Keeps the environments of the other tools; None leaves them out.
    """
    pythons = dict.fromkeys(OURS, Path(sys.executable))
    missing = _install_peers(pythons, cache) if cache else {}
    yield (
        "| to | what | tool | up s | multipart / it | raw / it | sendfile / it | down s "
        "| multipart / it | raw / it | sendfile / it | up CPU s | down CPU s | up added MB "
        "| down added MB |"
    )
    yield "| --- " * 15 + "|"
    for name, server in (("sink", sink), ("SeaweedFS", seaweedfs)):
        for source in sources:
            home = folder / f"{name}-{source.label}"
            home.mkdir()
            with contextlib.ExitStack() as stack:
                try:
                    endpoint = stack.enter_context(server(home))
                except FileNotFoundError as error:
                    yield f"| {name} | {source.name} | skipped: {error} |"
                    continue
                url, token = stack.enter_context(control_plane(home / "home", endpoint))
                comparison = Comparison(Place(name, endpoint, url, token), source)
                for number in range(rounds):
                    comparison.round(number, pythons, folder)
                yield from comparison.rows()
            shutil.rmtree(home, ignore_errors=True)
    for name, why in missing.items():
        yield f"\n{name} is left out: {why}"


def _install_peers(pythons: dict[str, Path], cache: Path) -> dict[str, str]:
    missing = {}
    deadline = time.monotonic() + INSTALL_SECONDS
    for name in PEERS:
        try:
            pythons[name] = _install(name, cache / name, deadline)
        except (OSError, subprocess.SubprocessError) as error:
            missing[name] = f"it could not be installed ({_last_words(error)})"
    return missing


def _install(name: str, place: Path, deadline: float) -> Path:
    python = place / "bin/python"
    if not (place / "installed").exists():
        for words in (
            [sys.executable, "-m", "venv", str(place)],
            [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", name],
        ):
            left = max(1.0, deadline - time.monotonic())
            subprocess.run(words, check=True, timeout=left, capture_output=True, text=True)
        (place / "installed").touch()
    return python


def _shown(ratio: float) -> str:
    return "-" if math.isnan(ratio) else f"{ratio:.2f}"


def _last_words(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done after {error.timeout:.0f} s"
    text = str(getattr(error, "stderr", None) or error).strip()
    return text.splitlines()[-1][:100] if text else type(error).__name__
