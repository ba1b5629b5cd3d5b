"""What is not documented of HuggingFace's Trainer, in one place.

| used | since | without it (an untested, newer version) |
| --- | --- | --- |
| ``CallbackHandler.callbacks``, found in the frames that call a hook | 3.0 | empty hooks stay |
| ``CallbackHandler.on_…(args, state, control)`` returns ``control`` | 3.0 | empty hooks stay |
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

_EVERY_STEP = ("on_pre_optimizer_step", "on_optimizer_step", "on_substep_end")
_DEEPEST = 10


def handler_of(callback: Any) -> Any:
    """What calls the hooks of a callback, seen from within one of them; None if it is not."""
    frame = sys._getframe(1)
    for _ in range(_DEEPEST):
        owner = frame.f_locals.get("self")
        if isinstance(owner, CallbackHandler) and callback in owner.callbacks:
            return owner
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def skip_empty_hooks(handler: Any) -> Callable[[], None]:
    """Have Trainer not call the hooks of every step that none of its callbacks implements.

    Calling an empty hook of all callbacks takes about as long as all that a step's end has to do.
    As soon as there are other callbacks, all is as before.

    Args:
        handler: What calls the hooks.

    Returns:
        Undoes it.
    """
    callbacks = list(handler.callbacks)
    skipped = [name for name in _EVERY_STEP if not any(_implements(c, name) for c in callbacks)]
    for name in skipped:
        setattr(handler, name, _unless_others(handler, callbacks, getattr(handler, name)))

    def undo() -> None:
        for name in skipped:
            vars(handler).pop(name, None)

    return undo


def _unless_others(handler: Any, callbacks: list[Any], call: Callable[..., Any]) -> Any:
    def hook(args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if handler.callbacks == callbacks:
            return control
        return call(args, state, control, **kwargs)

    return hook


def _implements(callback: Any, name: str) -> bool:
    inherited: Any = getattr(TrainerCallback, name, None)
    return getattr(getattr(callback, name, None), "__func__", None) is not inherited
