"""PyTorch Lightning: ``Trainer(callbacks=[PeriFlowCallback()])``, under both of its names.

Resume with ``trainer.fit(model, ckpt_path=pf.latest_checkpoint())``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import periflow_sdk as pf
from periflow_integrations import _lightning_adapter as adapter
from periflow_integrations import _run
from periflow_integrations._lightning_saves import Saves
from periflow_sdk import _training
from periflow_sdk.environment import job_environment, local_checkpoint_dir

__all__ = ["PeriFlowCallback", "PeriFlowLogger", "PeriFlowTrainer"]

adapter.demand_lightning()


class PeriFlowCallback:
    """Reports a Trainer's steps, metrics and checkpoints, and has it saved before a preemption.

    A step is one update of the weights: one for all batches of an accumulation, one for a batch in
    which several optimizers step.

    Args:
        total_train_steps: Steps planned in all; None: what the trainer plans.

    Example:
        >>> trainer = Trainer(callbacks=[PeriFlowCallback()])  # doctest: +SKIP
        >>> trainer.fit(model, ckpt_path=pf.latest_checkpoint())  # doctest: +SKIP
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> PeriFlowCallback:
        bases = tuple(package.Callback for package in adapter.packages())
        return object.__new__(adapter.joined(cls, bases))

    def __init__(self, total_train_steps: int | None = None) -> None:
        self._total_steps = total_train_steps
        self._saves: Saves | None = None
        self._trainer: Any = None
        self._is_active = self._is_in_step = self._is_tested = False
        self._logged: adapter.LoggedValues | None = None
        self._count: Any = None
        self._updates = 0
        self._changes = contextlib.ExitStack()
        self._recorded: dict[str, Any] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit" or _first_of(trainer) is not self or self._trainer is trainer:
            return
        self._trainer = trainer
        self._saves = Saves(trainer, self._step_done)
        self._is_tested = adapter.is_version_tested(trainer)
        self._logged = adapter.LoggedValues(trainer) if self._is_tested else None
        if (job := job_environment()) is not None and job.checkpoint_dir is not None:
            for checkpoint in adapter.model_checkpoints(trainer):
                checkpoint.dirpath = checkpoint.dirpath or str(job.checkpoint_dir)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer is not self._trainer:
            return
        if self._is_tested and job_environment() is not None:
            adapter.give_up_sigterm(trainer, self._open_run)
        else:
            self._open_run()
        _run.warn_if_begun_anew(trainer.global_step, "fit(ckpt_path=pf.latest_checkpoint())")
        self._is_active, self._is_in_step = True, False
        counts = adapter.update_count if self._is_tested else adapter.UpdateCount
        self._count = counts(trainer)
        self._updates = self._count.completed
        if self._is_tested:
            adapter.silence(self)
            self._enter(trainer)
        if pf.should_stop():
            adapter.stop(trainer)

    def on_train_batch_start(self, *args: Any) -> None:
        if self._is_active and not self._is_in_step:
            pf.start_step()
            self._is_in_step = True

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if self._is_active and (updates := self._count.completed) != self._updates:
            self._updates, self._is_in_step = updates, False
            if _run.complete_step(self._new(trainer.logged_metrics)):
                self._save_and_stop(trainer)

    def _begin(self, count: Callable[[], None]) -> Callable[[], None]:
        """The same as on_train_batch_start, in fewer calls, for Lightning whose insides we know."""
        logged = self._logged
        assert logged is not None
        results, known = logged.results, logged.known

        def begin() -> None:
            count()
            if not self._is_in_step:
                if logged.late_places or len(results) != len(known):
                    _run.record(logged.take_late())
                _training._run.start_step()
                self._is_in_step = True

        return begin

    def _end(self, train: Callable[..., Any]) -> Callable[..., Any]:
        """The same as on_train_batch_end."""
        logged, count = self._logged, self._count
        assert logged is not None

        def train_and_end(*args: Any, **kwargs: Any) -> Any:
            outputs = train(*args, **kwargs)
            updates = count.completed
            if updates != self._updates:
                self._updates, self._is_in_step = updates, False
                if _training._run.complete_step(logged.take()):
                    # A hook again: what saves has to come after Lightning's schedulers.
                    vars(self)["on_train_batch_end"] = self._save_and_stop
            return outputs

        return train_and_end

    def _save_and_stop(self, trainer: Any, *args: Any) -> None:
        if pf.is_emergency_save():
            assert self._saves is not None
            self._saves.save_now(_emergency_path(pf.current_step()))
        adapter.stop(trainer)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if self._is_active and pf.should_stop():
            adapter.stop(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._catch_up(trainer)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._catch_up(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._catch_up(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if not self._is_active:
            return
        self._catch_up(trainer)
        self._leave()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self._is_active:
            self._leave()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if trainer is not self._trainer or stage != "fit":
            return
        self._open_run()  # where all steps were done before, no training was started
        _run.ended(is_final=multiprocessing.parent_process() is not None)

    def _leave(self) -> None:
        if self._is_in_step:
            _run.abandon_step()
        self._is_active = self._is_in_step = False
        self._changes.close()

    def _enter(self, trainer: Any) -> None:
        """Change what Lightning calls at each step, until the training is left."""
        self._changes.callback(adapter.watch_batches(trainer, self._begin, self._end))
        self._changes.callback(adapter.skip_empty_profiles(trainer))

    def _open_run(self) -> None:
        if _run.is_open():
            return
        trainer = self._trainer
        config = dict(trainer.lightning_module.hparams)
        for logger in trainer.loggers:
            if isinstance(logger, PeriFlowLogger):
                config.update(logger.config)
        _run.open_run(self._total_steps or adapter.planned_steps(trainer), config)

    def _step_done(self) -> int:
        return pf.current_step() - self._is_in_step

    def _catch_up(self, trainer: Any) -> None:
        """Record what was computed after the hook of the last batch."""
        if trainer is not self._trainer or trainer.sanity_checking or not _run.is_open():
            return
        if self._logged is not None:
            _run.record(self._logged.take() | self._logged.take_late())
            self._recorded |= self._logged.taken()
        _run.record(self._new(self.collected()))

    def collected(self) -> Mapping[str, Any]:
        """What self.log() was given so far, and this callback records sooner or later."""
        if self._is_tested:
            return adapter.collected(self._trainer)
        logged: Mapping[str, Any] = self._trainer.logged_metrics
        return logged

    def _new(self, logged: Mapping[str, Any]) -> dict[str, Any]:
        """What is not recorded: Lightning keeps old values, as other tensors of the same memory."""
        recorded, new = self._recorded, {}
        for name, value in logged.items():
            before = recorded.get(name)
            if before is None or before.data_ptr() != value.data_ptr():
                recorded[name] = value
                new[name] = value
        return new


class PeriFlowLogger:
    """A logger that records what Lightning and its callbacks give to loggers.

    With PeriFlowCallback in the same trainer, it leaves to the callback what that records.
    Without, it brings one along.

    Example:
        >>> trainer = Trainer(logger=PeriFlowLogger())  # doctest: +SKIP
    """

    name = version = "periflow"

    def __new__(cls, *args: Any, **kwargs: Any) -> PeriFlowLogger:
        bases = tuple(package.loggers.Logger for package in adapter.packages())
        return object.__new__(adapter.joined(cls, bases))

    def __init__(self) -> None:
        cast(Any, super()).__init__()
        self.config: dict[str, Any] = {}
        self._callback: PeriFlowCallback | None = None

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Keep hyperparameters for the start of the run."""
        self.config.update(vars(params) if isinstance(params, Namespace) else params)

    def log_graph(self, model: Any, *args: Any, **kwargs: Any) -> None:
        """Meet the trainer: Lightning calls this before every training."""
        trainer = model.trainer
        if trainer.state.fn != "fit":
            return
        if not any(isinstance(callback, PeriFlowCallback) for callback in trainer.callbacks):
            callback = PeriFlowCallback()
            trainer.callbacks.insert(0, callback)  # before those that save
            callback.setup(trainer, model, "fit")
        self._callback = _first_of(trainer)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Record values that only loggers get, such as those of LearningRateMonitor."""
        if _run.is_open():
            known = self._callback.collected() if self._callback is not None else {}
            _run.record({name: value for name, value in metrics.items() if name not in known})


class PeriFlowTrainer:
    """Lightning's Trainer with PeriFlowCallback among its callbacks.

    Args:
        callbacks: As Trainer takes them.
        kwargs: What else Trainer takes.

    Example:
        >>> trainer = PeriFlowTrainer(max_epochs=3)  # doctest: +SKIP
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> PeriFlowTrainer:
        return object.__new__(adapter.joined(cls, (adapter.packages()[0].Trainer,)))

    def __init__(self, *, callbacks: Any = None, **kwargs: Any) -> None:
        given = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
        given = [callback for callback in given if callback is not None]
        if not any(isinstance(callback, PeriFlowCallback) for callback in given):
            given.insert(0, PeriFlowCallback())
        cast(Any, super()).__init__(callbacks=given, **kwargs)


def _first_of(trainer: Any) -> Any:
    """The callback that counts, should there be two by mistake."""
    return next(c for c in trainer.callbacks if isinstance(c, PeriFlowCallback))


def _emergency_path(step: int) -> Path:
    return local_checkpoint_dir() / f"emergency-step={step}.ckpt"
