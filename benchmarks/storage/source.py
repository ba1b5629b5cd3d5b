"""What is moved: random bytes in one large file, or in many small ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True)
class Source:
    """A folder of files; ``label`` is short and plain."""

    name: str
    label: str
    folder: Path

    @cached_property
    def layout(self) -> list[tuple[str, int]]:
        """Path and bytes of every file, sorted."""
        return _layout(self.folder)

    @property
    def size(self) -> int:
        return sum(size for _, size in self.layout)

    def is_same(self, folder: Path) -> bool:
        """Whether the folder has the same files with the same first and last bytes."""
        if _layout(folder) != self.layout:
            return False
        return all(_ends(self.folder / path) == _ends(folder / path) for path, _ in self.layout)


def make_large(root: Path, mebibytes: int) -> Source:
    root.mkdir()
    with (root / "weights.bin").open("wb") as file:
        for start in range(0, mebibytes, 16):
            file.write(os.urandom(min(16, mebibytes - start) * MIB))
    return Source(f"{mebibytes} MiB, one file", "large", root)


def make_many(root: Path, count: int) -> Source:
    for number in range(count):
        path = root / f"{number // 200:03}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(10_000))
    return Source(f"{count:,} x 10 kB", "many", root)


def warm_page_cache(folder: Path, size: int) -> None:
    """Give every turn the same start: nothing left to write back, and free memory in use before.

    A virtual machine takes memory it never used, or gave back when it was free for some seconds,
    from its host, which costs more than the write.
    """
    os.sync()
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        for _ in range(-(-size // (16 * MIB)) + 8):
            file.write(bytes(16 * MIB))
    ballast.unlink()


def _layout(folder: Path) -> list[tuple[str, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted((path.relative_to(folder).as_posix(), path.stat().st_size) for path in found)


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        first = file.read(64)
        file.seek(max(0, path.stat().st_size - 64))
        return first + file.read()
