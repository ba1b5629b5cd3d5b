"""HuggingFace Trainer: ``Trainer(callbacks=[PeriFlowCallback()])``.

Resume with ``trainer.train(resume_from_checkpoint=pf.latest_checkpoint())``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import periflow_sdk as pf
from periflow_integrations import _run
from periflow_integrations._framework import demand, is_tested
from periflow_sdk import _training
from periflow_sdk.errors import UsageError

demand("transformers", ("transformers",), "transformers>=4.57")
demand("accelerate", ("accelerate",), "accelerate>=1.12")

import transformers  # noqa: E402  (a missing library is told in our words first)
from accelerate import PartialState  # noqa: E402

from periflow_integrations import _transformers_adapter as adapter  # noqa: E402

__all__ = ["PeriFlowCallback"]

NEWEST_TESTED = (5, 24)


class PeriFlowCallback(transformers.TrainerCallback):
    """Reports a Trainer's steps, logs and checkpoints, and has it saved before a preemption.

    Example:
        >>> trainer = Trainer(model, args, callbacks=[PeriFlowCallback()])  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=pf.latest_checkpoint())  # doctest: +SKIP
    """

    _in_charge: tuple[PeriFlowCallback, Any] | None = None

    def __init__(self) -> None:
        self._is_active = self._is_in_step = self._is_leaving = False
        self._ended_at = 0  # of a step that ends with the values that are to be logged
        self._uploaded_step = -1
        self._unskip: Callable[[], None] = _nothing

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _refuse_jit(args)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _refuse_jit(args)
        first = PeriFlowCallback._in_charge
        self._is_active = first is None or first[1] is not state or first[0] is self
        if not self._is_active:
            return
        PeriFlowCallback._in_charge = (self, state)
        self._unskip()
        if is_tested("transformers", transformers.__version__, NEWEST_TESTED):
            handler = adapter.handler_of(self)
            self._unskip = adapter.skip_empty_hooks(handler) if handler else _nothing
        _run.open_run(state.max_steps, args.to_sanitized_dict())
        remedy = "train(resume_from_checkpoint=pf.latest_checkpoint())"
        _run.warn_if_begun_anew(state.global_step, remedy)
        if self._is_in_step or self._ended_at:
            _run.abandon_step()  # a training failed before this one
        self._is_in_step, self._ended_at = False, 0
        self._is_leaving = pf.should_stop()
        if self._is_leaving:
            control.should_training_stop = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._is_active and not self._is_in_step:
            if self._ended_at:
                self._complete_step({}, control)
            _training._run.start_step()
            self._is_in_step = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self._is_in_step:
            return
        self._is_in_step = False
        if control.should_log and not _training._run.is_asked_to_stop():
            self._ended_at = time.perf_counter_ns()
        elif _run.complete_step({}):
            control.should_save = pf.is_emergency_save() or control.should_save
            self._is_leaving = control.should_training_stop = True
            control.should_evaluate = False  # it would come before the save

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._is_active and pf.should_stop():
            control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._complete_step({}, control)
        if self._is_leaving:
            control.should_save = False  # the agreed step was saved; the epoch is not over
            control.should_evaluate = False

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self._ended_at:
            self._complete_step(logs if logs and state.is_world_process_zero else {}, control)
        elif logs and state.is_world_process_zero and self._is_mine(state) and _run.is_open():
            _run.record(logs)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self._is_mine(state) or not _run.is_open():
            return
        self._complete_step({}, control)
        # Ranks write files of their own, and Trainer does not wait for them.
        PartialState().wait_for_everyone()
        step = pf.current_step()
        if step == self._uploaded_step or args.local_process_index != 0:
            return
        folder = _saved_folder(args, state)
        if folder is not None and _run.upload(folder):
            self._uploaded_step = step

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self._is_active:
            return
        self._complete_step({}, control)
        if self._is_in_step:
            _run.abandon_step()
        self._is_active = self._is_in_step = False
        self._unskip()
        _run.ended(is_final=False)

    def _complete_step(self, values: Any, control: Any) -> None:
        """End the step that waits for its values, if one does."""
        ended_at, self._ended_at = self._ended_at, 0
        if ended_at and _run.complete_step({**values}, ended_at):
            self._is_leaving = control.should_training_stop = True
            control.should_evaluate = False

    def _is_mine(self, state: Any) -> bool:
        return PeriFlowCallback._in_charge == (self, state)


def _nothing() -> None:
    """No hook is skipped."""


def _saved_folder(args: Any, state: Any) -> Path | None:
    """Where the checkpoint of this step is; in a hyperparameter search it is a level deeper."""
    name = f"checkpoint-{state.global_step}"
    folder = Path(args.output_dir, name)
    if state.is_hyper_param_search:
        found = list(Path(args.output_dir).glob(f"*/{name}"))
        return max(found, key=lambda path: path.stat().st_mtime, default=None)
    return folder if folder.is_dir() else None


def _refuse_jit(args: Any) -> None:
    if not getattr(args, "enable_jit_checkpoint", False):
        return
    handler = signal.getsignal(signal.SIGTERM)
    before = getattr(getattr(handler, "__self__", None), "_original_sigterm_handler", None)
    if before is not None:
        signal.signal(signal.SIGTERM, before)
    raise UsageError(
        "enable_jit_checkpoint does not go together with PeriFlowCallback: ranks that hear of a "
        "signal at different times hang, and half a checkpoint looks like a whole one",
        hint="remove enable_jit_checkpoint=True; the callback saves before a preemption",
    )
