"""Lightning's two names, and everything of it that is not documented, in one place.

| used | since | without it (an untested, newer version) |
| --- | --- | --- |
| ``_logger_connector._logged_metrics`` | 1.2 | ``trainer.logged_metrics`` |
| ``epoch_loop._results``, ``_ResultMetric._forward_cache`` | 1.4 | ``trainer.logged_metrics`` |
| ``optim_progress``, ``optim_step_progress`` | 1.6 | ``trainer.global_step`` |
| ``automatic_optimization.run``, ``manual_optimization.run`` | 2.0 | hooks of every batch |
| ``batch_progress.increment_ready`` | 1.6 | hooks of every batch |
| ``PassThroughProfiler.profile`` does nothing | 1.5 | it stays as it is |
| a hook that is None is not called (``trainer.call``) | 2.0 | it is called, for nothing |
| ``_signal_connector._original_handlers`` | 1.6 | Lightning's own SIGTERM handler stays |
"""

from __future__ import annotations

import contextlib
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
_OF_A_STEP = ("on_train_batch_start", "on_train_batch_end")
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


class LoggedValues:
    """What self.log() was given in a training, found where it is kept, without being computed.

    A value is new when it is another object than the last one of its place.

    Args:
        trainer: A trainer that trains.

    Attributes:
        results: Lightning's places of values.
        known: The keys of those places that were looked at.
        late_places: Those of values that hooks of the end of a batch log.
    """

    def __init__(self, trainer: Any) -> None:
        self.results = trainer.fit_loop.epoch_loop._results
        self.known: set[str] = set()
        self._places: list[tuple[str, str, Any]] = []
        self.late_places: list[tuple[str, str, Any]] = []
        self._taken: dict[str, Any] = {}

    def take(self) -> dict[str, Any]:
        """The new values, but those that a hook of the end of a batch has logged, or will yet."""
        if len(self.results) != len(self.known):
            self._find_places()
        taken, new = self._taken, {}
        for key, name, metric in self._places:
            value = metric._forward_cache
            if value is not None and value is not taken.get(key):
                taken[key] = value
                new[name] = value
        return new

    def take_late(self) -> dict[str, Any]:
        """The new values of hooks of the end of a batch."""
        if len(self.results) != len(self.known):
            self._find_places()
        early, self._places = self._places, self.late_places
        try:
            return self.take()
        finally:
            self._places = early

    def taken(self) -> dict[str, Any]:
        """The newest values that were taken, tensors, by their names."""
        places = [*self._places, *self.late_places]
        return {name: self._taken[key] for key, name, _ in places if key in self._taken}

    def _find_places(self) -> None:
        for key in [key for key in self.results if key not in self.known]:
            self.known.add(key)
            metric = self.results[key]
            if metric.meta.on_step and metric.meta.logger:
                is_late = key.startswith("on_train_batch_end.")
                places = self.late_places if is_late else self._places
                places.append((key, metric.meta.forked_name(True), metric))


class UpdateCount:
    """``completed``: the updates of the weights so far, as ``trainer.global_step`` has them.

    Args:
        trainer: A trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    @property
    def completed(self) -> int:
        count: int = self._trainer.global_step
        return count


def update_count(trainer: Any) -> Any:
    """What has the number of updates in ``completed``, without a chain of properties."""
    loop = trainer.fit_loop.epoch_loop
    if trainer.lightning_module.automatic_optimization:
        return loop.automatic_optimization.optim_progress.optimizer.step.total
    return loop.manual_optimization.optim_step_progress.total


def watch_batches(
    trainer: Any,
    begin: Callable[[Callable[[], None]], Callable[[], None]],
    end: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Callable[[], None]:
    """Put functions around what Lightning calls before the hooks of a batch and to train on it.

    Calling a hook costs Lightning more than what a step's end has to do.

    Args:
        begin: Makes the function in the place of that which counts a batch as ready.
        end: Makes the function in the place of that which trains on it and updates the weights.

    Returns:
        Undoes it.
    """
    loop = trainer.fit_loop.epoch_loop
    is_automatic = trainer.lightning_module.automatic_optimization
    owner = loop.automatic_optimization if is_automatic else loop.manual_optimization
    count, train = loop.batch_progress.increment_ready, owner.run
    loop.batch_progress.increment_ready, owner.run = begin(count), end(train)

    def undo() -> None:
        loop.batch_progress.increment_ready, owner.run = count, train

    return undo


def skip_empty_profiles(trainer: Any) -> Callable[[], None]:
    """Have Lightning's profiler that measures nothing do so at less cost, where it is the one used.

    Lightning asks it some twenty times a step, each time through a generator that does nothing:
    together several times what a step's end has to do.

    Returns:
        Undoes it.
    """
    profiler = trainer.profiler
    profilers = importlib.import_module(f"{_package_of(trainer)}.profilers")
    if type(profiler) is not profilers.PassThroughProfiler or "profile" in vars(profiler):
        return lambda: None
    profiler.profile = _Unmeasured
    return lambda: vars(profiler).pop("profile", None)


class _Unmeasured(contextlib.nullcontext[str], contextlib.ContextDecorator):
    """What profile(name) of that profiler gives: a context of the name, or a decorator."""


def silence(callback: Any) -> None:
    """Have Lightning not call the hooks of every batch that a callback does not implement.

    Those of a step's begin and end are not called either, where watch_batches() is used.
    """
    for base in (package.Callback for package in packages()):
        for name in _EVERY_BATCH:
            if getattr(type(callback), name) is getattr(base, name):
                setattr(callback, name, None)
    for name in _OF_A_STEP:
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
