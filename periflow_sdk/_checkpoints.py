"""The checkpoints of a run: saved, staged for upload, found again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from ._console import say
from ._memory_stage import MemoryStage
from ._resume import Candidate, FileMark, marks_of, newest_whole
from ._sharded import ShardedSaves, ShardRecord, is_sharded
from ._staging import STAGING_FOLDER, CheckpointFolder, StagedFile, named_files, normalized
from ._upload import Upload
from ._writer import writer_of
from .errors import UsageError

Record = Callable[[int, str, str, str, list[StagedFile], int], bool]
_REMEMBERED = 5  # checkpoints that may be fallen back to
_SAME_NAME = 2  # older ones of a name whose newest is not written yet
_WRITTEN_SECONDS = 60.0  # how long a file may take from memory to the disk


class Checkpoints:
    """Saves and stages checkpoints; trouble with the disk is told, counted and survived.

    Args:
        folder: The checkpoint folder, or None in a job that has none.
        rank: The rank of this process.
        record: Records a staged checkpoint (step, id, save type, base, files), False if the
            record is lost; None outside a job, where nothing is uploaded.
        restored: The checkpoint this attempt starts from.
        memory: Takes states in memory; None where every file is written on this thread.
        run_dir: Where a worker may offer to hold files until it has copied them.
        keeps_notes: Notes beside the checkpoints say which is the newest, as outside a job.
        record_shard: Records a part of a sharded checkpoint; None outside a job.
    """

    def __init__(
        self,
        folder: CheckpointFolder | None,
        *,
        rank: int,
        record: Record | None,
        restored: Candidate | None = None,
        memory: MemoryStage | None = None,
        run_dir: Path | None = None,
        keeps_notes: bool = False,
        record_shard: ShardRecord | None = None,
    ) -> None:
        self.failed = 0
        self.written_by_training = 0
        self.error: str | None = None
        self._folder = folder
        self._rank = rank
        self._record = record
        self._keeps_notes = keeps_notes or record is None
        self._restored = restored
        self._own: list[Path] = []
        self._memory = memory
        self._run_dir = run_dir
        self._record_shard = record_shard
        self._sharded: ShardedSaves | None = None
        self._refusal: str | None = None
        self._is_nothing_new_told = False
        if record is not None and folder is None:
            self._refusal = "the job has no checkpoint folder (CKPT_DIR is not set)"

    def abandon(self, reason: str) -> None:
        """Upload nothing from now on, for this reason."""
        self._refusal = reason
        self._memory = None

    def _saved(self, path: Path) -> None:
        """Remember a checkpoint of this process, newest last."""
        self._own = [*(own for own in self._own if own != path), path][-_REMEMBERED:]

    def settle(self, seconds: float) -> None:
        """Wait for the files of states in memory, so that they are there for who comes next."""
        if self._memory is not None:
            self._memory.wait(seconds)

    def upload(self, path: str | os.PathLike[str] | None, step: int, save_type: str) -> Upload:
        """Stage a file, a folder, or what has changed in the checkpoint folder."""
        named = None if path is None else normalized(path)
        files = [] if named is None else named_files(named)
        upload_id = _new_id()
        if self._record is None:
            return Upload(upload_id, step, 0, None)
        if self._folder is None or self._refusal:
            return self._fail(upload_id, step, self._refusal or "")
        folder = self._folder
        if named is None:
            files = folder.changed_files()
        if not files:
            self._mention_nothing_new(folder.path)
            return Upload(upload_id, step, 0, None)
        root = folder.path if named is None else folder.root_of(named)
        try:
            staged = self._hold(folder, files, root, upload_id)
            staged = staged or folder.stage(files, root, upload_id)
        except (OSError, UnicodeError) as error:
            return self._fail(upload_id, step, _reason(error))
        self._saved(named or _top_entry(folder.path, files))
        return self._publish(upload_id, step, save_type, staged)

    def finish(self, seconds: float) -> None:
        """Wait for a sharded checkpoint that is being written, while its record can be made."""
        if self._sharded is not None and not self._refusal:
            self._sharded.finish(seconds)

    def _hold(
        self, folder: CheckpointFolder, files: list[Path], root: Path, upload_id: str
    ) -> list[StagedFile]:
        if self._run_dir is None or root != folder.path:
            return []
        try:
            return folder.hold(files, self._run_dir, upload_id)
        except (OSError, UnicodeError):  # the copy will say what is wrong
            return []

    def save(self, state: object, name: str, file_format: str, step: int, save_type: str) -> Upload:
        """Write a checkpoint file, atomically, and stage it."""
        if file_format == "dcp" or (file_format == "torch" and is_sharded(state)):
            return self._save_sharded(state, _checked_name(name), step, save_type)
        write = writer_of(file_format)
        relative = _checked_name(name)
        upload_id = _new_id()
        if self._folder is None or self._refusal:
            return self._fail(upload_id, step, self._refusal or "")
        target = self._folder.path / relative
        try:
            if file_format == "torch" and self._memory is not None and self._memory.is_served():
                number, staged = self._take(self._memory, state, relative, upload_id)
                if number:
                    self._saved(target)
                    if self._keeps_notes:
                        with contextlib.suppress(OSError):
                            self._remember(relative, step, promised=number)
                    return self._publish(upload_id, step, save_type, staged, number)
                self.written_by_training += 1
            self._write(write, state, target)
            if self._keeps_notes:
                self._remember(relative, step)
            if self._record is None:
                return Upload(upload_id, step, 0, None)
            staged = self._folder.link(target, upload_id)
        except (OSError, UnicodeError) as error:
            return self._fail(upload_id, step, _reason(error))
        self._saved(target)
        return self._publish(upload_id, step, save_type, staged)

    def _save_sharded(
        self, state: object, relative: PurePosixPath, step: int, save_type: str
    ) -> Upload:
        upload_id = _new_id()
        if self._folder is None or self._refusal:
            return self._fail(upload_id, step, self._refusal or "")
        if self._sharded is None:
            self._sharded = ShardedSaves(
                self._folder,
                rank=self._rank,
                record=self._record_shard,
                written=self._take_sharded,
                failed=lambda step, reason: self._fail("", step, reason),
            )
        try:
            return self._sharded.save(state, relative, upload_id, step, save_type)
        except OSError as error:
            return self._fail(upload_id, step, _reason(error))

    def _take_sharded(self, relative: PurePosixPath, step: int, is_first: bool) -> None:
        assert self._folder is not None
        if is_first and self._keeps_notes:
            self._remember(relative, step)
        self._saved(self._folder.path / relative)

    def latest(self) -> tuple[Path, int | None] | None:
        """The newest whole checkpoint on this disk; with its step where nobody else knows it.

        Raises:
            CheckpointError: There are some, and none is whole.
        """
        if self._memory is not None and self._own:
            self._memory.wait(_WRITTEN_SECONDS, self._own[-1])
        if self._keeps_notes:
            notes = [note for rank in {self._rank: None, 0: None} for note in self._recall(rank)]
            candidates = sorted(notes, key=lambda note: note.step or 0, reverse=True)
        else:
            candidates = [Candidate(path) for path in reversed(self._own) if path.exists()]
            candidates += [self._restored] if self._restored is not None else []
        found = newest_whole(candidates)
        return (found.path, found.step) if found else None

    def _take(
        self, memory: MemoryStage, state: object, relative: PurePosixPath, upload_id: str
    ) -> tuple[int, list[StagedFile]]:
        """Stage a state in memory; number 0 where it has to be written here."""
        from ._skeleton import UnfitStateError

        assert self._folder is not None
        target, staged = self._folder.path / relative, self._folder.staged_path(upload_id)
        if not _is_plain(self._folder.path, relative):
            return 0, []
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            (staged / relative).parent.mkdir(parents=True, exist_ok=True)
            number, size = memory.take(state, upload_id, target, relative.as_posix())
        except UnfitStateError:
            number, size = 0, 0
        except BaseException:
            self._folder.remove_staged(upload_id)
            raise
        if not number:
            self._folder.remove_staged(upload_id)
            return 0, []
        self._folder.expect(target, number)
        return number, [StagedFile(relative.as_posix(), size, number)]

    def _write(self, write: Callable[[object, Path], None], state: object, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # One name a rank: what a killed save left behind is overwritten by the next one.
        temporary = target.with_name(f".tmp-rank{self._rank}-{target.name}")
        temporary.unlink(missing_ok=True)
        try:
            write(state, temporary)
            if self._memory is not None:
                self._memory.publish(temporary, target)
            else:
                temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _publish(
        self,
        upload_id: str,
        step: int,
        save_type: str,
        staged: list[StagedFile],
        memory: int = 0,
    ) -> Upload:
        assert self._folder is not None and self._record is not None
        if not self._record(step, upload_id, save_type, str(self._folder.path), staged, memory):
            if memory and self._memory is not None:
                self._memory.take_back(self._folder.path / staged[0].path)
            self._folder.remove_staged(upload_id)
            return self._fail(upload_id, step, "the journal cannot be written")
        size = sum(file.size for file in staged)
        return Upload(upload_id, step, size, str(self._folder.staged_path(upload_id)))

    def _mention_nothing_new(self, folder: Path) -> None:
        if not self._is_nothing_new_told:
            self._is_nothing_new_told = True
            say(
                f"upload_checkpoint() found nothing new in CKPT_DIR ({folder}): "
                "save there, or name what to upload: upload_checkpoint(path)."
            )

    def _fail(self, upload_id: str, step: int, reason: str) -> Upload:
        self.failed += 1
        if self.error is None or reason != self.error:
            say(f"the checkpoint of step {step} is not uploaded: {reason}. Training goes on.")
        self.error = self.error or reason
        return Upload(upload_id, step, 0, None, reason)

    def _note_path(self, rank: int) -> Path:
        assert self._folder is not None
        return self._folder.path / STAGING_FOLDER / f"latest-rank{rank}.json"

    def _remember(self, relative: PurePosixPath, step: int, *, promised: int = 0) -> None:
        """Note a checkpoint for later runs.

        Args:
            promised: The time that the file will have; until then the one before it counts.
        """
        assert self._folder is not None
        note = self._note_path(self._rank)
        note.parent.mkdir(exist_ok=True)
        entry: dict[str, Any] = {"path": str(relative), "step": step}
        older: list[dict[str, Any]] = []
        same: list[dict[str, Any]] = []
        for known in _notes(note):
            (same if known.get("path") == str(relative) else older).append(known)
        if promised:
            entry |= {"size": 0, "mtime_ns": promised, "promised": True}
            older = same[:_SAME_NAME] + older
        else:
            (mark,) = marks_of([self._folder.path / relative]).values()
            entry |= {"size": mark.size, "mtime_ns": mark.mtime_ns}
        temporary = note.with_suffix(".tmp")
        temporary.write_text(json.dumps({"newest_first": [entry, *older][:_REMEMBERED]}))
        temporary.replace(note)

    def _recall(self, rank: int) -> list[Candidate]:
        """Checkpoints that a rank saved outside a job and that were not deleted since."""
        assert self._folder is not None
        found = []
        for note in _notes(self._note_path(rank)):
            with contextlib.suppress(ValueError, KeyError, TypeError, OSError, UsageError):
                path = self._folder.path / _checked_name(note["path"])
                mark = FileMark(int(note["size"]), int(note["mtime_ns"]))
                marks = {path: mark} if path.is_file() else {}
                if note.get("promised"):
                    if not path.is_file() or path.stat().st_mtime_ns != mark.mtime_ns:
                        continue
                    marks = {}  # its size was not known yet
                if path.exists():
                    found.append(Candidate(path, int(note["step"]), marks))
        return found


def _notes(path: Path) -> list[dict[str, Any]]:
    try:
        notes = json.loads(path.read_text())["newest_first"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [note for note in notes if isinstance(note, dict)] if isinstance(notes, list) else []


def _new_id() -> str:
    return os.urandom(16).hex()


def _reason(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _top_entry(folder: Path, files: list[Path]) -> Path:
    tops = {file.relative_to(folder).parts[0] for file in files}
    return folder / tops.pop() if len(tops) == 1 else folder


def _is_plain(folder: Path, relative: PurePosixPath) -> bool:
    """Whether no link lies between the folder and the file: the worker follows none."""
    parent = os.path.join(os.path.realpath(folder), relative.parent)  # noqa: PTH118
    return os.path.realpath(parent) == os.path.normpath(parent)


def _checked_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath()
    if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0] == ".periflow":
        raise UsageError(
            f"save_checkpoint(name={name!r}): the name is a path inside the checkpoint folder",
            hint='for example name="checkpoint.pt" or name="step-100/model.pt"',
        )
    return path
