"""The checkpoints of a Lightning Trainer, uploaded when they are fully written."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import periflow_sdk as pf
from periflow_integrations import _lightning_adapter as adapter
from periflow_integrations import _run
from periflow_sdk._console import say

_LONGEST_WRITE_SECONDS = 600.0


class Saves:
    """Uploads what ``trainer.save_checkpoint`` writes: every way to save goes through it.

    Of one step one checkpoint is uploaded, the first: files that are saved again at the same step
    (top-k, then last) hold the same state.

    Args:
        trainer: Its ``save_checkpoint`` is wrapped.
        step: The step that is done, as pf counts.
    """

    def __init__(self, trainer: Any, step: Callable[[], int]) -> None:
        self._trainer = trainer
        self._step = step
        self._uploaded_step = -1
        self._writing: dict[str, tuple[int, threading.Event]] = {}
        self._watched: list[Any] = []
        self._told: set[str] = set()
        save = trainer.save_checkpoint

        @functools.wraps(save)
        def save_and_upload(filepath: Any, *args: Any, **kwargs: Any) -> Any:
            weights_only = bool(args[0] if args else kwargs.get("weights_only"))
            step = self._claim(str(filepath), weights_only)
            result = save(filepath, *args, **kwargs)
            if step is not None and str(filepath) not in self._writing:
                self._upload(str(filepath), step)
            return result

        trainer.save_checkpoint = save_and_upload

    def save_now(self, path: Path) -> None:
        """Save, and come back when the file is written and staged, at the latest at the deadline.

        Args:
            path: Where to, on every rank the same.
        """
        self._uploaded_step = -1
        self._trainer.save_checkpoint(path)
        if entry := self._writing.get(str(path)):
            entry[1].wait(max(0.0, (pf.deadline() or _far()) - time.time()))

    def _claim(self, path: str, weights_only: bool) -> int | None:
        """The step that the file about to be written is the checkpoint of; None: no upload."""
        if not _run.is_open():
            return None
        step = self._step()
        if step == self._uploaded_step or not self._is_fit(path, weights_only):
            return None
        if adapter.is_async(self._trainer):
            if self._trainer.is_global_zero:
                self._watch()
                self._writing[path] = (step, threading.Event())
            self._uploaded_step = step
        return step

    def _is_fit(self, path: str, weights_only: bool) -> bool:
        if "://" in path:
            self._tell("remote", f"{path} is not on this machine: it is not uploaded.")
            return False
        if weights_only and self._trainer.training:
            # The job would start again from it, and Lightning cannot.
            self._tell(
                "weights",
                f"{Path(path).name} has weights only, from which no training can go on: "
                "it is not uploaded. pf.upload_checkpoint(path) does it all the same.",
            )
            return False
        return True

    def _upload(self, path: str, step: int) -> None:
        trainer = self._trainer
        # A folder has parts of all ranks, and may be on every node; a file is rank 0's.
        is_ours = trainer.local_rank == 0 if Path(path).is_dir() else trainer.is_global_zero
        if is_ours and Path(path).exists() and not _run.upload(Path(path), step):
            return
        self._uploaded_step = step

    def _watch(self) -> None:
        """Have the writing thread say when a file is there: from inside of the plugin it wraps."""
        io = self._trainer.strategy.checkpoint_io
        while getattr(io, "checkpoint_io", None) is not None:
            io = io.checkpoint_io
        if any(io is known for known in self._watched):
            return
        self._watched.append(io)
        write = io.save_checkpoint

        @functools.wraps(write)
        def write_and_upload(checkpoint: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
            step, is_written = self._writing.get(str(path), (None, None))
            try:
                result = write(checkpoint, path, *args, **kwargs)
                if step is not None:
                    self._upload(str(path), step)
                return result
            finally:
                if is_written is not None:
                    is_written.set()

        io.save_checkpoint = write_and_upload

    def _tell(self, kind: str, message: str) -> None:
        if self._trainer.is_global_zero and kind not in self._told:
            self._told.add(kind)
            say(message)


def _far() -> float:
    return time.time() + _LONGEST_WRITE_SECONDS
