"""The checkpoints of a run: saved, staged for upload, found again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ._console import say
from ._staging import STAGING_FOLDER, CheckpointFolder, StagedFile, named_files, normalized
from ._upload import Upload
from ._writer import writer_of
from .errors import UsageError

Record = Callable[[int, str, str, str, list[StagedFile]], bool]


class Checkpoints:
    """Saves and stages checkpoints; trouble with the disk is told, counted and survived.

    Args:
        folder: The checkpoint folder, or None in a job that has none.
        rank: The rank of this process.
        record: Records a staged checkpoint (step, id, save type, base, files), False if the
            record is lost; None outside a job, where nothing is uploaded.
        restored: The checkpoint this attempt starts from.
    """

    def __init__(
        self,
        folder: CheckpointFolder | None,
        *,
        rank: int,
        record: Record | None,
        restored: Path | None = None,
    ) -> None:
        self.failed = 0
        self.error: str | None = None
        self._folder = folder
        self._rank = rank
        self._record = record
        self._newest = restored
        self._refusal: str | None = None
        self._is_nothing_new_told = False
        if record is not None and folder is None:
            self._refusal = "the job has no checkpoint folder (CKPT_DIR is not set)"

    def abandon(self, reason: str) -> None:
        """Upload nothing from now on, for this reason."""
        self._refusal = reason

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
            staged = folder.stage(files, root, upload_id)
        except (OSError, UnicodeError) as error:
            return self._fail(upload_id, step, _reason(error))
        self._newest = named or _top_entry(folder.path, files)
        return self._publish(upload_id, step, save_type, staged)

    def save(self, state: object, name: str, file_format: str, step: int, save_type: str) -> Upload:
        """Write a checkpoint file, atomically, and stage it."""
        write = writer_of(file_format)
        relative = _checked_name(name)
        upload_id = _new_id()
        if self._folder is None or self._refusal:
            return self._fail(upload_id, step, self._refusal or "")
        target = self._folder.path / relative
        try:
            self._write(write, state, target)
            if self._record is None:
                self._remember(relative, step)
                return Upload(upload_id, step, 0, None)
            staged = self._folder.link(target, upload_id)
        except (OSError, UnicodeError) as error:
            return self._fail(upload_id, step, _reason(error))
        self._newest = target
        return self._publish(upload_id, step, save_type, staged)

    def latest(self) -> tuple[Path, int | None] | None:
        """The newest checkpoint on this disk; with its step where nobody else knows it."""
        if self._record is not None:
            if self._newest is None or not self._newest.exists():
                return None
            return self._newest, None
        found = [self._recall(rank) for rank in {self._rank: None, 0: None}]
        return max((entry for entry in found if entry), key=lambda entry: entry[1], default=None)

    def _write(self, write: Callable[[object, Path], None], state: object, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # One name a rank: what a killed save left behind is overwritten by the next one.
        temporary = target.with_name(f".tmp-rank{self._rank}-{target.name}")
        temporary.unlink(missing_ok=True)
        try:
            write(state, temporary)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _publish(
        self, upload_id: str, step: int, save_type: str, staged: list[StagedFile]
    ) -> Upload:
        assert self._folder is not None and self._record is not None
        if not self._record(step, upload_id, save_type, str(self._folder.path), staged):
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

    def _remember(self, relative: PurePosixPath, step: int) -> None:
        note = self._note_path(self._rank)
        note.parent.mkdir(exist_ok=True)
        temporary = note.with_suffix(".tmp")
        temporary.write_text(json.dumps({"path": str(relative), "step": step}))
        temporary.replace(note)

    def _recall(self, rank: int) -> tuple[Path, int] | None:
        assert self._folder is not None
        try:
            note = json.loads(self._note_path(rank).read_text())
            path, step = self._folder.path / _checked_name(note["path"]), int(note["step"])
        except (OSError, ValueError, KeyError, TypeError, UsageError):
            return None
        return (path, step) if path.exists() else None


def _new_id() -> str:
    return os.urandom(16).hex()


def _reason(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _top_entry(folder: Path, files: list[Path]) -> Path:
    tops = {file.relative_to(folder).parts[0] for file in files}
    return folder / tops.pop() if len(tops) == 1 else folder


def _checked_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath()
    if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0] == ".periflow":
        raise UsageError(
            f"save_checkpoint(name={name!r}): the name is a path inside the checkpoint folder",
            hint='for example name="checkpoint.pt" or name="step-100/model.pt"',
        )
    return path
