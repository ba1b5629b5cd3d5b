"""The functions a training script calls, each one line over the current run."""

from __future__ import annotations

import atexit
import os
import sys

from .errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Any, Literal, Never

    from ._session import Session, Status
    from ._upload import Upload


class _NoRun:
    """Stands where there is no run: every call but finish() says what to do."""

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self.was_asked_for_latest = False

    def latest_checkpoint(self) -> Path | None:
        """Where to resume from is often asked first: a framework takes it as an argument."""
        from ._opening import find_latest_checkpoint

        found = find_latest_checkpoint()
        self.was_asked_for_latest = True
        return found

    def __getattr__(self, name: str) -> Never:
        if name.startswith("__"):  # whoever inspects the module is not a script
            raise AttributeError(name)
        raise UsageError(f"{name}() was called {self._reason}", hint="call pf.init() first")


_run: Session | _NoRun = _NoRun("before init()")
_is_hooked = False


def init(
    total_train_steps: int | float | None = None,
    local_log_name: str | os.PathLike[str] | None = None,
    *,
    config: Mapping[str, Any] | object | None = None,
    attach: bool | None = None,
    **unknown: Never,
) -> None:
    """Start the run. Call it once, before the first step, in every rank.

    In a job the run is recorded for the platform; outside a job nothing leaves this machine,
    unless the run is attached.
    A second call finishes the first run and starts another.

    Args:
        total_train_steps: Optimizer steps planned in all, those of earlier attempts included.
            None, -1 or infinity: not known.
        local_log_name: Outside a job, a file that takes one JSON object per metric() call
            (``{"step": 1, "time": 1700000000.123, "loss": 0.5}``; time in unix seconds). It is
            appended to; rank R > 0 writes ``<name>.rank<R>``. Ignored in a job or an attached run.
        config: Hyperparameters to show with the job: a mapping, or an object with attributes
            such as ``argparse.Namespace``. What JSON does not have is kept as text.
        attach: Outside a job, show the run as a job of the current project: True needs a login
            (`pf login`), False stays local, None does what PERIFLOW_ATTACH=1 says. An agent
            beside the script sends metrics and checkpoints; what the script prints stays here.

    Raises:
        UsageError: An argument is wrong, the local log cannot be written, or attach=True
            without a login.

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init(total_train_steps=1000, config={"lr": 1e-3})
        >>> pf.finish()
    """
    if unknown:
        raise _unknown_argument(next(iter(unknown)))
    from ._opening import open_session

    global _run
    goes_on = isinstance(_run, _NoRun) and _run.was_asked_for_latest
    finish()
    _run = open_session(total_train_steps, local_log_name, config, attach)
    if goes_on:
        _run.latest_checkpoint()
    _hook_process()


def start_step() -> None:
    """Begin a step: one optimizer update, whatever number of batches it takes.

    Raises:
        UsageError: Before init(), or the step before has not ended.

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init()
        >>> pf.start_step()
        >>> pf.end_step()
        >>> pf.finish()
    """
    _run.start_step()


def end_step() -> None:
    """End the step that start_step() began. What it returned for survives ``kill -9``.

    Raises:
        UsageError: Before init(), or without start_step().

    Example:
        See start_step().
    """
    _run.end_step()


class TrainStep:
    """The context that train_step() returns."""

    __slots__ = ()

    def __enter__(self) -> None:
        _run.start_step()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            _run.end_step()
        else:
            _run.abandon_step()


_train_step = TrainStep()


def train_step() -> TrainStep:
    """start_step() and end_step() as a context.

    An exception inside passes through and leaves the step unfinished: it does not count, and
    the next step has the same number.

    Raises:
        UsageError: Before init(), or the step before has not ended.

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init(total_train_steps=2)
        >>> for _ in range(pf.current_step(), 2):
        ...     with pf.train_step():
        ...         pf.metric({"loss": 0.5})
        >>> pf.current_step()
        2
        >>> pf.finish()
    """
    return _train_step


def metric(values: Mapping[str, Any]) -> None:
    """Record values of the current step; between steps, of the step that was done last.

    What it returned for survives ``kill -9``. A tensor on a GPU is copied without a wait, and
    survives once it has arrived. The disk being full is told once on stderr and counted in
    status(); it never raises.

    Args:
        values: Names and values: numbers, strings, bools, and tensors, arrays or scalars of one
            element. NaN and infinities are kept as such.

    Raises:
        UsageError: Before init(), a name that is not a string, or a value of another kind.

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init()
        >>> pf.metric({"loss": 0.25, "lr": 1e-3, "phase": "warm-up"})
        >>> pf.finish()
    """
    _run.metric(values)


def upload_checkpoint(
    path: str | os.PathLike[str] | None = None, *, step: int | None = None
) -> Upload:
    """Take checkpoint files as they are now, for upload as the checkpoint of the current step.

    It returns when the files are safe: cloned or copied aside (``.periflow`` in the checkpoint
    folder), or held by the agent, which copies them while training goes on. They may be
    overwritten or deleted at once. It never waits for the network. Outside a job it does nothing.

    Args:
        path: A file or a folder. None: the files of CKPT_DIR that have changed since the last
            upload. ``*.tmp`` and ``.tmp*`` in a folder are left out.
        step: The step that the files are of, where a thread has written them while training went
            on. None: the current step.

    Returns:
        The upload. Its ``error`` says why, if files could not be copied whole.

    Raises:
        UsageError: Before init(), there is nothing at ``path``, or ``step`` has not begun.

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init()
        >>> pf.upload_checkpoint().error is None
        True
        >>> pf.finish()
    """
    return _run.upload_checkpoint(path, step)


def save_checkpoint(
    state: object,
    name: str = "checkpoint.pt",
    *,
    format: Literal["torch", "safetensors", "dcp"] = "torch",
) -> Upload:
    """Write a checkpoint file and take it for upload.

    The file appears whole or not at all, in CKPT_DIR; outside a job in CKPT_DIR or
    ``./checkpoints``, without an upload. In a job the call returns when the state is copied into
    memory, from where it outlives this process; the agent writes the file soon after. Where
    memory has no room the file is written here; status() counts it in ``saves_by_training``.

    A sharded state, one that holds DTensors (FSDP2) or ShardedTensors, is always written by
    torch.distributed.checkpoint, into a folder, while training goes on. Every rank has to make
    the call, with the same arguments; the next one waits until the files of the last are
    written. finish() waits for them too, so call it before ``destroy_process_group()``.

    Args:
        state: What ``torch.save`` takes; for safetensors a dictionary of tensors; for dcp a
            dictionary.
        name: The path inside the checkpoint folder: of the file, or of the folder for dcp.
        format: ``"torch"``, ``"safetensors"`` or ``"dcp"`` (torch.distributed.checkpoint).

    Returns:
        The upload. Its ``error`` says why, if the file could not be written; for dcp, some time
        after the call.

    Raises:
        UsageError: Before init(), a name that leaves the folder, or an unknown format.
        MissingExtraError: The format's library is not installed.

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init()
        >>> upload = pf.save_checkpoint({"step": 3}, "last.pt")  # doctest: +SKIP
        >>> pf.finish()
    """
    return _run.save_checkpoint(state, name, format)


def latest_checkpoint() -> Path | None:
    """The checkpoint to resume from, on the local disk.

    In a job: the newest one of this process; else, if a launcher has started this attempt's ranks
    again, the newest that they left on this disk; else the one that was restored for the attempt.
    Outside a job: the newest one that save_checkpoint() wrote; asked before the first step, it
    also makes the steps go on from there, as they do in a job.

    It may be asked before init(), too. A checkpoint that is cut off or has lost files is told on
    stderr, and the one before it is named.

    Returns:
        A file, or a folder if the checkpoint has several entries; None on a fresh start.

    Raises:
        CheckpointError: There are checkpoints, and none of them is whole.

    Example:
        >>> import periflow_sdk as pf
        >>> path = pf.latest_checkpoint()
        >>> if path is not None:
        ...     state = torch.load(path)  # doctest: +SKIP
    """
    return _run.latest_checkpoint()


def current_step() -> int:
    """The step being done; between steps, the one done last; at first, what is done already.

    Raises:
        UsageError: Before init().

    Example:
        See train_step().
    """
    return _run.current_step()


def is_emergency_save() -> bool:
    """True at the one step at which every rank has to save, because the node will be taken.

    Ask once a step, in every rank that saves, before should_stop(). Inside the step or after it
    is the same; the answer about a step never changes. It waits only in that one step, until
    every rank has agreed: 10 ms as a rule, for a rank that is late at most until the deadline,
    and never for one that waits for this one. Then, or if not all can agree, it is False.

    Returns:
        Whether to save now; the same in every rank that asks at this step.

    Raises:
        UsageError: Before init().

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init()
        >>> pf.is_emergency_save()
        False
        >>> pf.finish()
    """
    return _run.is_emergency_save()


def should_stop() -> bool:
    """True when the script should leave its loop and exit 0.

    From the step of an emergency save on (it waits as is_emergency_save() does); when no save
    could be agreed on before the deadline; and when all steps were done before this run began.
    Having seen it, the script may exit 0 before its last step without having failed.

    Returns:
        Whether to leave now; True once, it stays true.

    Raises:
        UsageError: Before init().

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init()
        >>> pf.should_stop()
        False
        >>> pf.finish()
    """
    return _run.should_stop()


def deadline() -> float | None:
    """When the node will be taken, in unix seconds; None if nobody has said so.

    Raises:
        UsageError: Before init().

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init()
        >>> pf.deadline() is None
        True
        >>> pf.finish()
    """
    return _run.deadline()


def status() -> Status:
    """How the run is doing: mode, step, and what was lost to trouble with the disk.

    Raises:
        UsageError: Before init().

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init()
        >>> pf.status().lost_records
        0
        >>> pf.finish()
    """
    return _run.status()


def finish(*, early: bool = False) -> None:
    """End the run. It is quick, may be called twice, and is called at a normal exit.

    Values that are still on their way from a GPU get one second to arrive. A script that ends
    with an exception does not finish its run.

    Args:
        early: The training is done although planned steps are left, say because the loss no
            longer falls. Without it, a job that exits before the last of its
            ``total_train_steps`` has failed; with it, in any rank, it is a success that
            `pf job view` shows as "finished early at step 40 of 100". A stop that was seen by
            should_stop() counts all the same: such a job goes on later.

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init(total_train_steps=100)
        >>> for _ in range(pf.current_step(), 100):
        ...     with pf.train_step():
        ...         loss = 0.01
        ...     if loss < 0.02:
        ...         break
        >>> pf.finish(early=pf.current_step() < 100)
    """
    global _run
    if not isinstance(_run, _NoRun):
        run, _run = _run, _NoRun("after finish()")
        run.finish(early=early)


def _hook_process() -> None:
    global _is_hooked
    if not _is_hooked:
        _is_hooked = True
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_in_forked_child)


def _at_exit() -> None:
    if isinstance(_run, _NoRun):
        return
    if hasattr(sys, "last_value"):  # the interpreter sets it for an exception nobody caught
        _run.close()
    else:
        finish()


def _in_forked_child() -> None:
    if not isinstance(_run, _NoRun):
        _run.leave_to_parent()


def _unknown_argument(name: str) -> UsageError:
    import difflib

    known = ("total_train_steps", "local_log_name", "config", "attach")
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return UsageError(
        f"init() has no argument {name!r}" + (f"; it is {nearest[0]!r}" if nearest else ""),
        hint=f"init() takes {', '.join(known)}",
    )
