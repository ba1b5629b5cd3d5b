"""HuggingFace Accelerate: ``Accelerator(log_with=PeriFlowTracker())``.

Resume with ``accelerator.load_state(pf.latest_checkpoint())``.
"""

from __future__ import annotations

import functools
import weakref
from pathlib import Path
from typing import Any

import periflow_sdk as pf
from periflow_integrations import _run
from periflow_integrations._framework import demand, is_tested
from periflow_sdk.errors import UsageError

demand("accelerate", ("accelerate",), "accelerate>=1.12")

import accelerate  # noqa: E402  (a missing library is told in our words first)
from accelerate.tracking import GeneralTracker  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

__all__ = ["PeriFlowTracker"]

NEWEST_TESTED = (1, 15)


class PeriFlowTracker(GeneralTracker):
    """Records what ``accelerator.log`` is given, and uploads what ``save_state`` writes.

    The run starts with ``accelerator.init_trackers``, in every rank. A step is one
    ``with pf.train_step():``; in a script without it, one update by the first optimizer.

    Args:
        total_train_steps: Optimizer steps planned in all; None: not known.

    Example:
        >>> tracker = PeriFlowTracker(total_train_steps=1000)
        >>> accelerator = Accelerator(log_with=tracker)  # doctest: +SKIP
        >>> accelerator.init_trackers("mine", config={"lr": 1e-3})  # doctest: +SKIP
    """

    name = "periflow"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self, total_train_steps: int | None = None) -> None:
        super().__init__()
        self._total_steps = total_train_steps
        self._counted: Any = None
        self._hook: Any = None
        self._uploaded_step = -1
        _extend_accelerator()

    @property
    def tracker(self) -> Any:
        """What values go to: the SDK."""
        return pf

    def start(self) -> None:
        """Called by init_trackers(), before the configuration is known."""
        is_tested("accelerate", accelerate.__version__, NEWEST_TESTED)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Start the run with its hyperparameters."""
        _run.open_run(self._total_steps, values)

    def open(self) -> None:
        """Start the run, unless it is open, and count steps for a script that does not."""
        _run.open_run(self._total_steps)
        if self._hook is None:
            self._hook = register_optimizer_step_post_hook(self._count)

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Record values at the current step; the number that the script gives is its own affair."""
        if _run.is_open():
            _run.record(values)

    def finish(self) -> None:
        """End the run, as end_training() does."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        pf.finish()

    def upload(self, accelerator: Any, folder: Path) -> None:
        """Upload what save_state() has written, once every rank has written its part."""
        if not _run.is_open():
            return
        accelerator.wait_for_everyone()
        step = pf.current_step()
        if step == self._uploaded_step or not accelerator.is_local_main_process:
            return
        if _run.upload(folder):
            self._uploaded_step = step

    def _count(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Count one step for each update by the first optimizer that makes one."""
        if self._counted is None:
            self._counted = weakref.ref(optimizer)
        if self._counted() is not optimizer or not _run.is_open():
            return
        try:
            pf.start_step()
        except UsageError:  # the script has begun one: it counts by itself
            self._counted = _nothing
        else:
            pf.end_step()


def _nothing() -> None:
    return None


def _extend_accelerator() -> None:
    """Have save_state() and init_trackers() tell the tracker of their accelerator."""
    init, save = accelerate.Accelerator.init_trackers, accelerate.Accelerator.save_state
    if hasattr(save, "_original"):
        return

    @functools.wraps(init)
    def init_trackers(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = init(self, *args, **kwargs)
        for tracker in _trackers(self):
            tracker.open()
        return result

    @functools.wraps(save)
    def save_state(self: Any, *args: Any, **kwargs: Any) -> Any:
        folder = save(self, *args, **kwargs)
        for tracker in _trackers(self):
            tracker.upload(self, Path(folder))
        return folder

    save_state._original = save  # type: ignore[attr-defined]
    accelerate.Accelerator.init_trackers = init_trackers
    accelerate.Accelerator.save_state = save_state


def _trackers(accelerator: Any) -> list[PeriFlowTracker]:
    """Ours, in every rank (Accelerate starts trackers in the main process only); one, not two."""
    return [t for t in accelerator.log_with if isinstance(t, PeriFlowTracker)][:1]
