"""The run that a framework's training reports to: one a process, however often it trains."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Mapping
from pathlib import Path

import periflow_sdk as pf
from periflow_integrations._entry import at_top
from periflow_sdk import _training
from periflow_sdk._console import say
from periflow_sdk.errors import UsageError

_is_hooked = False


def is_open() -> bool:
    """Whether pf.init() was called, by the script or by open_run()."""
    try:
        pf.current_step()
    except UsageError:
        return False
    return True


def open_run(total_steps: int | float | None, config: Mapping[str, object] | None = None) -> None:
    """Start the run, unless the script or an earlier training has.

    Args:
        total_steps: Planned optimizer steps; None, -1 or infinity: not known.
        config: Hyperparameters.
    """
    if not is_open():
        pf.init(total_train_steps=total_steps, config=config or None)


def warn_if_begun_anew(framework_step: int, remedy: str) -> None:
    """Say so when the job goes on at a step, but the framework begins at its first one.

    Args:
        framework_step: The steps done, as the framework counts them.
        remedy: What to write in the script.
    """
    status = pf.status()
    if status.step > 0 and framework_step == 0 and status.rank == 0 and not status.is_complete:
        say(
            f"the job goes on after step {status.step}, but the training begins anew: "
            f"resume it with {remedy}."
        )


def record(values: Mapping[str, object]) -> None:
    """Record metrics; what metric() does not take is left out, and named once."""
    _training._run.record(values)


def complete_step(values: Mapping[str, object], ended_at: int | None = None) -> bool:
    """End the step with its metrics, as record() takes them; whether to stop after it.

    Args:
        ended_at: When it ended, by ``time.perf_counter_ns()``; None: now.
    """
    return _training._run.complete_step(values, ended_at)


def upload(path: Path, step: int | None = None) -> bool:
    """Upload a checkpoint that is fully written; False if it could not be taken.

    Args:
        path: A file or a folder.
        step: The step it is of; None: the current one.
    """
    return pf.upload_checkpoint(at_top(path), step=step).error is None


def abandon_step() -> None:
    """Leave the step that is open unfinished: the framework's training failed in it."""
    pf.train_step().__exit__(RuntimeError, RuntimeError(), None)


def ended(*, is_final: bool) -> None:
    """The framework's training has returned.

    The run stays open, for what the script still saves or reports. Where planned steps are left
    and nobody asked for a stop, the framework had its own reason to end, such as early stopping:
    the run is then finished as one that ended early.

    Args:
        is_final: This process ends without its exit handlers, as forked workers do.
    """
    global _is_hooked
    if is_open():
        _training._run.write_held()
    if is_final:
        _finish()
    elif not _is_hooked:
        _is_hooked = True
        atexit.register(_at_exit)  # runs before that of init(), which was registered earlier


def _at_exit() -> None:
    if not hasattr(sys, "last_value"):  # the interpreter sets it for an exception nobody caught
        _finish()


def _finish() -> None:
    if is_open():
        status = pf.status()
        pf.finish(early=bool(status.total_steps) and not status.is_complete)
