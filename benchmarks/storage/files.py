"""The files of a folder and the names they have in a bucket."""

from __future__ import annotations

from pathlib import Path


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def key_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def target_of(folder: Path, key: str) -> Path:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
