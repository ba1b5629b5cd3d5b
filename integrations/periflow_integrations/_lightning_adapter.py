"""Lightning's two names, and everything of it that is not documented, in one place.

| used | since | without it (an untested, newer version) |
| --- | --- | --- |
| ``_logger_connector.on_batch_end``, ``._logged_metrics`` | 1.2 | ``trainer.logged_metrics`` |
| a hook that is None is not called (``trainer.call``) | 2.0 | it is called, for nothing |
| ``_signal_connector._original_handlers`` | 1.6 | Lightning's own SIGTERM handler stays |
"""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from periflow_integrations._framework import demand, is_tested

NEWEST_TESTED = (2, 6)
_NAMES = ("lightning.pytorch", "pytorch_lightning")
_EVERY_BATCH = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
_REQUIREMENT = "lightning>=2.5"

T = TypeVar("T", bound=type)


def demand_lightning() -> None:
    """Raise MissingExtraError unless Lightning is installed under one of its names."""
    demand("Lightning", ("lightning", "pytorch_lightning"), _REQUIREMENT)


def packages() -> list[ModuleType]:
    """Lightning as the script has imported it, under one name or both; else as it is installed."""
    loaded = [sys.modules[name] for name in _NAMES if name in sys.modules]
    if loaded:
        return loaded
    demand_lightning()
    name = _NAMES[0] if importlib.util.find_spec("lightning") else _NAMES[1]
    return [importlib.import_module(name)]


def joined(cls: T, bases: tuple[type, ...]) -> T:
    """A class that is ours and Lightning's: made late, when it is known which Lightning is used."""
    if any(issubclass(cls, base) for base in bases):
        return cls
    name = cls.__name__
    return type(name, (cls, *bases), {"__module__": cls.__module__, "__qualname__": name})  # type: ignore[return-value]


def is_version_tested(trainer: Any) -> bool:
    """Whether the trainer's Lightning is one whose inner names are known."""
    package = sys.modules[_package_of(trainer)]
    return is_tested("Lightning", str(package.__version__), NEWEST_TESTED)


def is_async(trainer: Any) -> bool:
    """Whether checkpoints are written by a thread, after save_checkpoint() has returned."""
    plugins = importlib.import_module(f"{_package_of(trainer)}.plugins.io")
    return isinstance(trainer.strategy.checkpoint_io, plugins.AsyncCheckpointIO)


def model_checkpoints(trainer: Any) -> list[Any]:
    """The trainer's ModelCheckpoint callbacks."""
    callbacks = sys.modules[f"{_package_of(trainer)}.callbacks"]
    return [c for c in trainer.callbacks if isinstance(c, callbacks.ModelCheckpoint)]


def after_batch(trainer: Any, call: Callable[[], None]) -> None:
    """Have something called when a batch's values have been collected, hooks included."""
    connector = trainer._logger_connector
    collect = connector.on_batch_end

    def on_batch_end() -> None:
        collect()
        call()

    connector.on_batch_end = on_batch_end


def silence(callback: Any) -> None:
    """Have Lightning not call the hooks of every batch that a callback does not implement."""
    for base in (package.Callback for package in packages()):
        for name in _EVERY_BATCH:
            if getattr(type(callback), name) is getattr(base, name):
                setattr(callback, name, None)


def collected(trainer: Any) -> Mapping[str, Any]:
    """What self.log() was given for loggers, newest values, without computing anything."""
    values: Mapping[str, Any] = trainer._logger_connector._logged_metrics
    return values


def give_up_sigterm(trainer: Any, open_run: Callable[[], None]) -> None:
    """In a job: take Lightning's SIGTERM handler away, and have the run's own one kept.

    Lightning's handler talks to the other ranks from inside of a signal, and ends training
    without a save.

    Args:
        open_run: Starts the run, which installs its handler.
    """
    before = trainer._signal_connector._original_handlers
    if signal.SIGTERM in before and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])
        open_run()
        before[signal.SIGTERM] = signal.getsignal(signal.SIGTERM)  # it comes back after fit()
    else:
        open_run()


def planned_steps(trainer: Any) -> int | float | None:
    """The steps the trainer plans, as pf counts them; None: it cannot be known."""
    if not trainer.lightning_module.automatic_optimization and trainer.max_steps != -1:
        # max_steps then counts each optimizer, and who steps when is up to the module.
        return None if len(trainer.optimizers) > 1 else trainer.max_steps
    total: int | float = trainer.estimated_stepping_batches
    return total


def stop(trainer: Any) -> None:
    """End the training after this batch, whatever its least number of steps, and unvalidated."""
    trainer.should_stop = True
    trainer.limit_val_batches = 0
    trainer.fit_loop.min_epochs = None
    trainer.fit_loop.epoch_loop.min_steps = None


def _package_of(trainer: Any) -> str:
    for cls in type(trainer).__mro__:
        for name in _NAMES:
            if cls.__module__.startswith(f"{name}."):
                return name
    raise TypeError(f"{type(trainer).__name__} is not a Trainer of Lightning")
