"""The journal of this node's ranks: found, read in whole lines, removed when all have read it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_RANK = re.compile(r"rank-(0|[1-9][0-9]{0,8})")
_SYSTEM = re.compile(r"system-(0|[1-9][0-9]{0,5})")
_SEGMENT = re.compile(r"([0-9]{20}-([0-9]{1,10}))\.jsonl")
LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True, order=True)
class Segment:
    """One file of a rank. ``pid`` is its writer's."""

    rank: int
    name: str
    pid: int
    path: Path

    @property
    def key(self) -> str:
        """Its name in the memories of supervisor and worker."""
        return f"{self.rank}/{self.name}"

    @property
    def size(self) -> int:
        """Bytes it has, with those that its writer has reserved; 0 when it is gone."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def read_lines(self, offset: int, limit: int) -> bytes:
        """Whole lines from ``offset`` on, about ``limit`` bytes of them; empty when there is none.

        A last line without its newline is still being written, or torn: it is never returned.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(offset)
            data, is_end = _records(file.read(limit))
            while not is_end and b"\n" not in data and len(data) < LONGEST_LINE:
                more, is_end = _records(file.read(limit))
                data += more
        return data[: data.rfind(b"\n") + 1]


def _records(data: bytes) -> tuple[bytes, bool]:
    """What comes before the first byte that is reserved and not written yet, and whether one is."""
    written, zero, _ = data.partition(b"\0")
    return written, bool(zero) or not data


def ranks(run_dir: Path) -> dict[int, Path]:
    """The folder of each rank that has started on this node."""
    found = {}
    for entry in _entries(run_dir):
        match = _RANK.fullmatch(entry.name)
        if match and entry.is_dir(follow_symlinks=False):
            found[int(match[1])] = Path(entry.path)
    return dict(sorted(found.items()))


def segments(run_dir: Path) -> Iterator[Segment]:
    """Every segment, those of a rank in the order they were opened."""
    for rank, folder in ranks(run_dir).items():
        names = sorted(entry.name for entry in _entries(folder))
        for match in map(_SEGMENT.fullmatch, names):
            if match:
                yield Segment(rank, match[1], int(match[2]), folder / match[0])


def system_segments(run_dir: Path) -> Iterator[Segment]:
    """What agents measured on their nodes: segments of the ranks -1 - node."""
    for entry in _entries(run_dir):
        node = _SYSTEM.fullmatch(entry.name)
        if node and entry.is_dir(follow_symlinks=False):
            folder = Path(entry.path)
            for match in map(_SEGMENT.fullmatch, sorted(each.name for each in _entries(folder))):
                if match:
                    yield Segment(-1 - int(node[1]), match[1], int(match[2]), folder / match[0])


def remove_read(run_dir: Path, readers: Sequence[Mapping[str, int]]) -> list[str]:
    """Remove segments that are rotated and that every reader has read; the keys removed.

    Args:
        readers: For each reader, the offset it has reached in each segment.
    """
    found = list(segments(run_dir))
    removed = []
    for n, segment in enumerate(found):
        rotated = any(s.rank == segment.rank and s.pid == segment.pid for s in found[n + 1 :])
        size = segment.size
        if rotated and all(reader.get(segment.key, 0) >= size for reader in readers):
            segment.path.unlink(missing_ok=True)
            removed.append(segment.key)
    return removed


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []
