"""Sharded states, written by torch.distributed.checkpoint while training goes on."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from ._staging import CheckpointFolder, StagedFile
from ._swap import swap_folder
from ._upload import Upload
from .errors import MissingExtraError, UsageError

# (step, id, save type, base, files, ranks, folder, failure): False if the record is lost.
ShardRecord = Callable[[int, str, str, str, list[StagedFile], int, str, str], bool]
_EMERGENCY_SECONDS = 600.0
_KINDS = (
    ("torch.distributed.tensor", "DTensor"),
    ("torch.distributed._shard.sharded_tensor", "ShardedTensor"),
)


def is_sharded(state: object) -> bool:
    """Whether a state holds tensors of which each rank has a part only."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in _KINDS)
    kinds = tuple(kind for kind in found if isinstance(kind, type))
    return bool(kinds) and _holds(state, kinds)


def _holds(state: object, kinds: tuple[type, ...]) -> bool:
    if isinstance(state, dict):
        return any(_holds(value, kinds) for value in state.values())
    if isinstance(state, list | tuple):
        return any(_holds(value, kinds) for value in state)
    return isinstance(state, kinds)


class Write:
    """One sharded checkpoint on its way to the disk, as this rank sees it.

    ``parts`` are the folders, by rank, into which the ranks write.
    """

    def __init__(
        self, upload: Upload, relative: PurePosixPath, save_type: str, parts: dict[int, Path]
    ) -> None:
        self.upload = upload
        self.relative = relative
        self.save_type = save_type
        self.parts = parts
        self.is_over = False


class ShardedSaves:
    """Saves one sharded state after the other; each is on the disk some time after the call.

    torch.distributed.checkpoint writes in a thread of its own, and its ranks agree there over a
    process group that nothing else uses. Each rank writes into a folder of its own, which is its
    staged part; when the ranks have agreed that all is written, hard links to the parts of this
    node become the checkpoint's folder, and the part is recorded.

    Args:
        folder: The checkpoint folder.
        rank: The rank of this process.
        record: Records a part: first that it is being written, then its files, or why there are
            none. None outside a job.
        written: Told of a checkpoint that is whole on this disk (path inside the folder, step,
            whether this rank is the one of its node to note it).
        failed: Told of one that is not (step, reason).
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        *,
        rank: int,
        record: ShardRecord | None,
        written: Callable[[PurePosixPath, int, bool], None],
        failed: Callable[[int, str], object],
    ) -> None:
        import threading

        self._folder = folder
        self._rank = rank
        self._record = record
        self._written = written
        self._failed = failed
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._lock = threading.Lock()
        self._current: Write | None = None
        self._number = 0
        self._gang: _Gang | None = None
        self._stager: Any = None

    def save(
        self, state: object, relative: PurePosixPath, upload_id: str, step: int, save_type: str
    ) -> Upload:
        """Copy the state aside and begin to write it. Every rank has to call it.

        It waits for the checkpoint before, if that one is still being written.

        Raises:
            UsageError: The state is no dictionary.
            MissingExtraError: torch is not installed.
        """
        dcp = _library()
        if not isinstance(state, dict):
            raise UsageError(
                'save_checkpoint(format="dcp") takes a dictionary',
                hint='save_checkpoint({"model": model.state_dict()}, "sharded", format="dcp")',
            )
        self._is_idle.wait()
        write = self._begin(relative, upload_id, step, save_type)
        try:
            future = dcp.async_save(
                state,
                storage_writer=dcp.FileSystemWriter(self._part_of(write), sync_files=False),
                process_group=self._gang.group if self._gang else None,
                **self._staging(),
            )
        except BaseException as error:
            self._end(write, error)
            if isinstance(error, OSError):
                return write.upload
            raise
        future.add_done_callback(lambda done: self._end(write, done.exception()))
        if save_type == "EMERGENCY":  # nothing is gained by training on, and the node goes
            self.finish(_EMERGENCY_SECONDS)
        return write.upload

    def finish(self, seconds: float) -> None:
        """Wait for the checkpoint that is being written; give it up after a time."""
        if not self._is_idle.wait(seconds) and self._current is not None:
            self._end(self._current, TimeoutError(f"it was not written within {seconds:.0f} s"))

    def _begin(self, relative: PurePosixPath, own_id: str, step: int, save_type: str) -> Write:
        self._gang = _join(self._gang)
        ids = self._ids(own_id)
        parts = {rank: self._folder.staged_path(part_id) for rank, part_id in ids.items()}
        mine = self._own(ids)
        staged = None if self._record is None else str(self._folder.staged_path(mine))
        upload = Upload(mine, step, 0, staged, is_pending=True)
        write = Write(upload, relative, save_type, parts)
        self._number += 1
        self._folder.remove_staged(mine)  # what a killed run may have left outside a job
        self._current = write
        self._is_idle.clear()
        self._note(write, [], "")
        return write

    def _ids(self, own_id: str) -> dict[int, str]:
        """The ids of all parts, the same on every rank without a word between them."""
        if self._record is None:
            # Two in turn: a rank may begin the next one while another still takes this one up.
            key = f"local/{self._number % 2}"
        elif self._gang is None:
            return {self._rank: own_id}
        else:
            key = f"{self._gang.key}/{self._number}"
        ranks = range(self._gang.ranks) if self._gang else [self._rank]
        return {rank: _derived_id(f"{key}/{rank}") for rank in ranks}

    def _own(self, by_rank: dict[int, Any]) -> Any:
        return by_rank[self._gang.rank if self._gang else self._rank]

    def _part_of(self, write: Write) -> Path:
        part: Path = self._own(write.parts) / write.relative
        return part

    def _staging(self) -> dict[str, Any]:
        """A stager that keeps its memory from one save to the next, pinned where there is CUDA."""
        if self._stager is None:
            self._stager = _new_stager()
        return {"async_stager": self._stager} if self._stager else {}

    def _end(self, write: Write, error: BaseException | None) -> None:
        """Publish or give up; in the thread that has written, or in one that waits no longer."""
        with self._lock:
            if write.is_over:
                return
            write.is_over = True
            try:
                if error is None:
                    self._publish(write)
                else:
                    self._give_up(write, _reason(error))
            except OSError as trouble:
                self._give_up(write, _reason(trouble))
            finally:
                self._is_idle.set()

    def _publish(self, write: Write) -> None:
        self._assemble(write)
        staged = [] if self._record is None else _staged_files(self._part_of(write), write.relative)
        if not self._note(write, staged, ""):
            raise OSError("the journal cannot be written")
        write.upload.settle(size=sum(file.size for file in staged))

    def _give_up(self, write: Write, reason: str) -> None:
        self._note(write, [], reason)
        self._folder.remove_staged(write.upload.id)
        self._failed(write.upload.step, reason)
        write.upload.settle(size=0, error=reason)

    def _note(self, write: Write, files: list[StagedFile], failure: str) -> bool:
        if self._record is None:
            return True
        upload, folder = write.upload, write.relative.as_posix()
        base, ranks = str(self._folder.path), len(write.parts)
        return self._record(
            upload.step, upload.id, write.save_type, base, files, ranks, folder, failure
        )

    def _assemble(self, write: Write) -> None:
        """Make the checkpoint's folder of the parts on this disk; the lowest rank here does it."""
        parts = [part / write.relative for part in write.parts.values()]
        here = [part for part in parts if part.is_dir()]
        is_first = here[:1] == [self._part_of(write)]
        if is_first:
            target = self._folder.path / write.relative
            new = target.with_name(f".tmp-rank{self._rank}-{target.name}")
            _link_files(here, new)
            swap_folder(new, target)
            self._folder.mark_seen(target.iterdir())
        if len(here) == len(parts):
            self._written(write.relative, write.upload.step, is_first)
        if is_first and self._record is None:
            for part in reversed(write.parts.values()):  # its own last: the others look for it
                self._folder.remove_staged(part.name)


class _Gang:
    """The ranks that save together: their process group and a key they share."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self.world: Any = dist.group.WORLD
        self.rank: int = dist.get_rank()
        self.ranks: int = dist.get_world_size()
        # Of its own: what another thread sends over the script's group would mix with the script's.
        self.group: Any = dist.new_group(backend="gloo")
        key = [os.urandom(16).hex()]
        dist.broadcast_object_list(key, src=0, group=self.group)
        self.key: str = key[0]


def _join(gang: _Gang | None) -> _Gang | None:
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable")
        return None
    if gang is not None and gang.world is dist.group.WORLD:
        return gang
    try:
        return _Gang()
    except RuntimeError as error:
        raise OSError(f"the ranks did not meet ({_reason(error)})") from error


def _library() -> Any:
    try:
        import torch.distributed.checkpoint as dcp
    except ImportError:
        raise MissingExtraError(
            'save_checkpoint(format="dcp") needs torch, which is not installed',
            hint="pip install torch",
        ) from None
    return dcp


def _new_stager() -> Any:
    try:
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
    except ImportError:  # an older torch stages by itself
        return False
    import torch

    is_cuda = torch.cuda.is_available()
    return DefaultStager(
        StagingOptions(
            use_pinned_memory=is_cuda,
            use_shared_memory=False,
            use_async_staging=False,
            use_non_blocking_copy=is_cuda,
        )
    )


def _staged_files(part: Path, relative: PurePosixPath) -> list[StagedFile]:
    found = [(file, file.stat()) for file in sorted(part.iterdir())]
    return [
        StagedFile((relative / file.name).as_posix(), stat.st_size, stat.st_mtime_ns)
        for file, stat in found
    ]


def _link_files(parts: Iterable[Path], target: Path) -> None:
    import shutil

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for part in parts:
        for file in part.iterdir():
            link = target / file.name
            try:
                link.hardlink_to(file)
            except OSError:  # a file system without links
                shutil.copy2(file, link)


def _derived_id(text: str) -> str:
    import hashlib

    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _reason(error: BaseException) -> str:
    """One line: torch wraps what went wrong on each rank into an error of its own."""
    for failure in (getattr(error, "failures", None) or {}).values():
        with contextlib.suppress(TypeError, IndexError):
            error = failure[0]
            break
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
