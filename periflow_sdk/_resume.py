"""The checkpoint to resume from: each candidate is looked at before it is named."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ._console import say
from ._dcp import fault_of
from ._staging import files_in
from .errors import CheckpointError

RESTORED_NOTE = "restored.json"
_ZIP_MAGIC = b"PK\x03\x04"


class FileMark(NamedTuple):
    """What a file was when it was known to be whole."""

    size: int
    mtime_ns: int


class Candidate(NamedTuple):
    """A checkpoint that may be resumed from.

    ``step`` is None where the platform knows it; ``marks`` has what is known of its files,
    ``fault`` why it cannot be used, if that is known already.
    """

    path: Path
    step: int | None = None
    marks: Mapping[Path, FileMark] = {}
    fault: str | None = None


def newest_whole(candidates: Iterable[Candidate]) -> Candidate | None:
    """The first candidate whose files are whole; None if there is no candidate.

    Raises:
        CheckpointError: There are checkpoints, and none of them is whole.
    """
    faults: list[str] = []
    for candidate in candidates:
        fault = _fault(candidate)
        if fault is None:
            if faults:
                say(f"{'; '.join(faults)}: {candidate.path.name} is resumed from instead.")
            return candidate
        faults.append(fault)
    if not faults:
        return None
    raise CheckpointError(
        f"no checkpoint can be resumed from: {'; '.join(faults)}",
        hint="start over in an empty checkpoint folder, or from a checkpoint that "
        "`pf checkpoint list` names",
        data={"faults": faults},
    )


def restored_candidate(path: Path, folder: Path | None, run_dir: Path) -> Candidate:
    """What the agent has restored, with the marks that it left in the run directory."""
    try:
        files = json.loads((run_dir / RESTORED_NOTE).read_text())["files"]
        marks = {(folder or path) / name: FileMark(*mark) for name, mark in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        marks = {}
    return Candidate(path, None, {file: mark for file, mark in marks.items() if _in(file, path)})


def mark_of(file: Path) -> FileMark | None:
    """What a file is now; None if it is not there."""
    try:
        return next(iter(marks_of([file]).values()))
    except OSError:
        return None


def marks_of(files: Iterable[Path]) -> dict[Path, FileMark]:
    """What files are now."""
    found = {}
    for file in files:
        status = file.stat()
        found[file] = FileMark(status.st_size, status.st_mtime_ns)
    return found


def _in(file: Path, path: Path) -> bool:
    return file == path or path in file.parents


def _fault(candidate: Candidate) -> str | None:
    """Why a checkpoint cannot be used; None if it is whole as far as one can see."""
    path = candidate.path
    if candidate.fault:
        return candidate.fault
    if not path.exists():
        return f"{path.name} is not there any more"
    try:
        present = marks_of(files_in(path) if path.is_dir() else [path])
        for file, mark in candidate.marks.items():
            if file not in present:
                return f"{path.name} lacks {file.name}"
            if present[file].size == 0 < mark.size:
                return f"{file.name} is empty"
        for file, mark in present.items():
            if mark != candidate.marks.get(file) and not _is_complete(file, mark.size):
                return f"{file.name} is cut off"
        return fault_of(present)
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"


def _is_complete(file: Path, size: int) -> bool:
    """Whether a file that nobody vouches for ends where its format says."""
    with file.open("rb") as stream:
        head = stream.read(8)
        if file.suffix == ".safetensors":
            return _is_complete_safetensors(head, stream.read(_length(head, size)), size)
    if head[:4] == _ZIP_MAGIC:  # torch.save: its list of records is at the end
        import zipfile

        try:
            with zipfile.ZipFile(file) as archive:
                return bool(archive.infolist())
        except zipfile.BadZipFile:
            return False
    return not (file.suffix in (".pt", ".pth", ".ckpt") and size == 0)


def _length(head: bytes, size: int) -> int:
    return min(int.from_bytes(head, "little"), size)


def _is_complete_safetensors(head: bytes, text: bytes, size: int) -> bool:
    try:
        tensors = json.loads(text)
        ends = [t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return size == 8 + len(text) + max(ends, default=0)
