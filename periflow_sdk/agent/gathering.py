"""The parts of a checkpoint, as ranks stage them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from periflow_sdk.api.models import SaveType

_ID = re.compile(r"[0-9a-f]{32}")
_KEPT_FIELDS = ("generation", "number", "snapshot_id", "failure")


@dataclass
class Part:
    """What one rank staged with one call: its files, path → bytes, in its folder.

    ``changed_at`` has their modification times in ns, as they were when they were staged.
    ``memory`` is the number of a state that is in memory until its file is written, else 0.
    A part of a sharded checkpoint is announced when it is saved and has its files (``is_written``)
    some time later, or never (``failure``): all of ``ranks`` ranks have one, below ``folder``.
    ``marks`` are size, mtime and inode of files that the worker copies while it holds them.
    """

    rank: int
    upload_id: str
    files: dict[str, int]
    changed_at: dict[str, int] = field(default_factory=dict)
    memory: int = 0
    ranks: int = 1
    folder: str = ""
    is_written: bool = True
    failure: str = ""
    marks: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def is_again(self, other: Part) -> bool:
        """Whether a part has the same rank and some of the same files as another."""
        shares = bool(self.files.keys() & other.files.keys())
        return self.rank == other.rank and (shares or self.folder == other.folder != "")

    @property
    def staged(self) -> str:
        """Where its files are, below the checkpoint folder."""
        return f".periflow/{self.upload_id}"


@dataclass
class Gathering:
    """The parts of one checkpoint, as they come in.

    ``number`` counts those of the same step, save type and generation. Where there are several
    nodes, ``snapshot_id`` is what this one has handed in, ``failure`` why it has nothing to.
    """

    step: int
    save_type: SaveType
    parts: list[Part] = field(default_factory=list)
    generation: int = 0
    number: int = 0
    snapshot_id: str = ""
    failure: str = ""

    @property
    def upload_id(self) -> str:
        """The name under which it is announced: that of the part seen first."""
        return self.parts[0].upload_id

    def files(self) -> dict[str, tuple[Part, int]]:
        """Every path with the part it is taken from and its size; the lowest rank wins."""
        chosen: dict[str, tuple[Part, int]] = {}
        for part in sorted(self.parts, key=lambda part: part.rank, reverse=True):
            chosen.update({path: (part, size) for path, size in part.files.items()})
        return chosen

    @property
    def size(self) -> int:
        """Bytes of the whole checkpoint."""
        return sum(size for _, size in self.files().values())

    def has_part_of(self, rank: int) -> bool:
        return any(part.rank == rank for part in self.parts)

    def takes(self, part: Part) -> bool:
        """Whether a part belongs here: a rank that saves the same file again begins anew."""
        return not any(part.is_again(other) for other in self.parts)

    @property
    def is_being_written(self) -> bool:
        """Whether a rank has still to say that its part is on the disk, or will not be."""
        return not all(part.is_written or part.failure for part in self.parts)

    @property
    def fault(self) -> str:
        """What went wrong with a part that was announced; empty if nothing did."""
        for part in self.parts:
            if part.failure:
                return f"rank {part.rank} could not write its part of {part.folder}: {part.failure}"
            if not part.is_written:
                return f"the training ended before rank {part.rank} had written {part.folder}"
        return ""

    @property
    def lack(self) -> str:
        """Why it can't be published though nothing more comes; empty if it can."""
        if self.fault:
            return self.fault
        for part in self.parts:
            if part.ranks > sum(other.folder == part.folder for other in self.parts):
                return f"not all of {part.ranks} ranks have a part of {part.folder}"
        return ""


def is_id(name: str) -> bool:
    """Whether this is how a folder of staged files is named."""
    return _ID.fullmatch(name) is not None


def gatherings(items: list[dict[str, Any]]) -> Iterator[Gathering]:
    """Back from worker.json."""
    for item in items:
        parts = [Part(**part) for part in item["parts"]]
        save_type = cast("SaveType", item["save_type"])
        rest = {name: item[name] for name in _KEPT_FIELDS if name in item}
        yield Gathering(item["step"], save_type, parts, **rest)
