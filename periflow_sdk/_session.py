"""One run of a script: its steps, metrics and checkpoints, without globals."""

from __future__ import annotations

import time

from . import _control as control_words
from ._agreement import Agreement
from ._metric_log import HELD_STEPS
from .errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from ._checkpoints import Checkpoints
    from ._journal import Journal, LocalLog
    from ._notice import Notice
    from ._upload import Upload

_EMERGENCY = control_words.EMERGENCY
_STARTED = control_words.STARTED
_FINISHED = control_words.FINISHED
_STOP = control_words.STOP
_ABORTS = control_words.ABORTS
_SHARDED_SECONDS = 600.0  # how long finish() waits for a sharded checkpoint to be on the disk
_WRITING_SECONDS = 10.0  # how long finish() gives the worker to write states in memory
_LATE_SECONDS = 1.0  # how long finish() gives values that are still on a GPU
_clock = time.perf_counter_ns


class Status:
    """How a run is doing, as status() found it.

    Attributes:
        mode: ``"job"``, ``"attached"`` or ``"local"``.
        rank: The rank of this process.
        world_size: The number of ranks.
        step: The step being done, or the last one done.
        total_steps: What init() was told, or None.
        is_complete: Whether all planned steps are done; False if their number is not known.
        lost_records: Records that could not be written to the disk.
        pending_values: Metric values that have not arrived from a GPU.
        failed_uploads: Checkpoints that could not be staged.
        saves_by_training: Checkpoints that save_checkpoint() wrote to the disk itself, because
            memory had no room or those before were still being read.
        error: The first reason for a lost record or a failed upload, or None.
    """

    __slots__ = (
        "error",
        "failed_uploads",
        "is_complete",
        "lost_records",
        "mode",
        "pending_values",
        "rank",
        "saves_by_training",
        "step",
        "total_steps",
        "world_size",
    )

    def __init__(self, session: Session) -> None:
        file = session.log.file
        self.mode = session.mode
        self.rank = session.rank
        self.world_size = session.world_size
        self.step = session.current_step()
        self.total_steps = session.total_steps or None
        self.is_complete = session.is_complete()
        self.lost_records = file.lost if file is not None else 0
        self.pending_values = len(session.log.late.waiting)
        self.failed_uploads = session.checkpoints.failed
        self.saves_by_training = session.checkpoints.written_by_training
        self.error = (file.error if file is not None else None) or session.checkpoints.error

    def __repr__(self) -> str:
        return f"Status({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


class Session:
    """A run between init() and finish().

    Args:
        mode: ``"job"`` or ``"local"``.
        log: Where records go.
        checkpoints: Where checkpoints go.
        progress: Words this rank writes.
        control: Words the agent writes.
        rank: The rank of this process.
        world_size: The number of ranks.
        total_steps: The planned number of steps; 0 if unknown.
        first_step: The step that is done already.
        notice: Reports a SIGTERM, in a job.
    """

    def __init__(
        self,
        *,
        mode: str,
        log: Journal | LocalLog,
        checkpoints: Checkpoints,
        progress: memoryview,
        control: memoryview,
        rank: int,
        world_size: int,
        total_steps: int,
        first_step: int,
        notice: Notice | None = None,
    ) -> None:
        self.mode = mode
        self.log = log
        self.checkpoints = checkpoints
        self.rank = rank
        self.world_size = world_size
        self.total_steps = total_steps
        self._progress = progress
        self._control = control
        self._agreement = Agreement(progress, control)
        self._notice = notice
        self._first_step = self._step = first_step
        self._was_complete = 0 < total_steps <= first_step  # nothing left to do from the beginning
        self._started_at: int | None = None
        self._is_forked = False
        control_words.begin(progress, total_steps=total_steps, first_step=first_step)
        if notice is not None:
            notice.install()

    def start_step(self) -> None:
        if self._started_at is not None:
            raise UsageError(
                f"start_step() was called twice; step {self._step} has not ended",
                hint="call pf.end_step() first, or use `with pf.train_step():`",
            )
        if self._control[_EMERGENCY]:
            self._agreement.before_next(self._step)
        step = self._step = self._step + 1
        self._progress[_STARTED] = step
        self._started_at = _clock()

    def end_step(self) -> None:
        started_at = self._started_at
        if started_at is None:
            raise UsageError(
                "end_step() was called without start_step()",
                hint="call pf.start_step() at the beginning of each step",
            )
        self._started_at = None
        self.log.step(self._step, _clock() - started_at)
        self._progress[_FINISHED] = self._step

    def complete_step(self, values: Mapping[str, Any], ended_at: int | None = None) -> bool:
        """end_step(), metric() and should_stop() in one, for callbacks: less code is touched.

        The record of a step that ends soon after the one before may wait for those that follow.

        Args:
            values: Of the step that ends, and changed by nobody any more; what metric() does not
                take is left out, and named once.
            ended_at: When it ended, by ``time.perf_counter_ns()``; None: now.

        Returns:
            What should_stop() says.

        Raises:
            UsageError: There is no step to end.
        """
        started_at = self._started_at
        if started_at is None:
            self.end_step()  # says what to do
            return False
        step, ended_at = self._step, ended_at or _clock()
        self._started_at = None
        log = self.log
        log.held.append((step, ended_at, ended_at - started_at, values))
        if ended_at > log.held_until or len(log.held) >= HELD_STEPS:
            log.write_held()
        self._progress[_FINISHED] = step
        control = self._control
        if control[_EMERGENCY] or control[_STOP] or control[_ABORTS]:
            log.drain()
            return self.should_stop()
        self._agreement.refused = step  # told "no" about it, since nobody has asked for anything
        return self._was_complete

    def is_asked_to_stop(self) -> bool:
        """Whether should_stop() has to be asked; it is not an answer about this step."""
        control = self._control
        return bool(control[_EMERGENCY] or control[_STOP] or control[_ABORTS])

    def abandon_step(self) -> None:
        """Leave the step unfinished: it counts as not done, and the next one has its number."""
        if self._started_at is not None:
            self._started_at = None
            self._step -= 1

    def metric(self, values: Mapping[str, Any]) -> None:
        try:
            self.log.metric(self._step, values)
        except AttributeError:
            if hasattr(values, "items"):
                raise
            raise UsageError(
                f"metric() takes names and values, not a {type(values).__name__}",
                hint='pf.metric({"loss": loss})',
            ) from None

    def record(self, values: Mapping[str, Any]) -> None:
        """Do metric() for a framework's values: what it does not take is named, not refused."""
        self.log.what_fits(self._step, values)

    def write_held(self) -> None:
        """Write the steps that complete_step() has held back."""
        self.log.drain()

    def upload_checkpoint(
        self, path: str | os.PathLike[str] | None, step: int | None = None
    ) -> Upload:
        if step is None:
            step = self._step
        elif isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= self._step:
            raise UsageError(
                f"upload_checkpoint(step={step!r}): a step that was begun is needed",
                hint=f"leave it out for the current step, {self._step}",
            )
        return self.checkpoints.upload(path, step, self._save_type(step))

    def save_checkpoint(self, state: object, name: str, file_format: str) -> Upload:
        step = self._step
        return self.checkpoints.save(state, name, file_format, step, self._save_type(step))

    def latest_checkpoint(self) -> Path | None:
        found = self.checkpoints.latest()
        if found is None:
            return None
        path, step = found
        if step is not None and self._progress[_STARTED] == self._first_step == 0:
            # Outside a job nobody else says where the run goes on.
            self._first_step = self._step = step
            self._was_complete = 0 < self.total_steps <= step
            control_words.begin(self._progress, total_steps=self.total_steps, first_step=step)
        return path

    def current_step(self) -> int:
        return self._step

    def is_emergency_save(self) -> bool:
        return self._agreement.is_emergency_save(self._step)

    def should_stop(self) -> bool:
        return self._agreement.should_stop(self._step) or self._was_complete

    def is_complete(self) -> bool:
        return 0 < self.total_steps <= self._progress[_FINISHED]

    def deadline(self) -> float | None:
        milliseconds = self._control[control_words.DEADLINE]
        return milliseconds / 1000 if milliseconds else None

    def status(self) -> Status:
        return Status(self)

    def finish(self, *, early: bool = False) -> None:
        if self._is_forked:
            return
        self.checkpoints.finish(_SHARDED_SECONDS)
        end = time.monotonic() + _LATE_SECONDS
        self.log.drain()
        while self.log.late.waiting and time.monotonic() < end:
            time.sleep(0.001)
            self.log.drain()
        self.log.finish(self._step)
        self._progress[control_words.EARLY] = int(early)
        self._progress[control_words.STATE] = control_words.DONE
        self.checkpoints.settle(_WRITING_SECONDS)
        if self._notice is not None:
            self._notice.remove()

    def close(self) -> None:
        """Close without saying that the run has finished: the script is failing."""
        if not self._is_forked:
            self.log.drain()

    def leave_to_parent(self) -> None:
        """After a fork, in the child: the journal and the words are the parent's."""
        self._is_forked = True
        self._progress = control_words.private_words()
        self._agreement = Agreement(self._progress, control_words.private_words())
        self.log.abandon("a forked process has no run of its own; call pf.init() in it")
        self.checkpoints.abandon("this is a forked process; call pf.init() in it")

    def _save_type(self, step: int) -> str:
        return "EMERGENCY" if self._agreement.is_committed(step) else "NORMAL"
