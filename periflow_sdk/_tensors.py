"""Metric values on a GPU: they are fetched without a wait and arrive later."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def number(value: Any) -> Any:
    """A tensor's value if it needs no wait, and a number is recorded faster; else the tensor."""
    try:
        return value.item() if value.is_cpu else value
    except (AttributeError, RuntimeError):  # no tensor, or one of several elements
        return value


class CudaCopy:
    """One value on its way from a GPU to pinned memory, without a wait on either side."""

    def __init__(self, tensor: Any) -> None:
        torch = sys.modules["torch"]
        # torch keeps freed pinned blocks, so a slot per value costs no allocation after the first.
        self._slot = torch.empty((), dtype=tensor.dtype, pin_memory=True)
        self._slot.copy_(tensor.detach().reshape(()), non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(tensor.device))

    def has_arrived(self) -> bool:
        """True once the value is in host memory."""
        return bool(self._event.query())

    def item(self) -> Any:
        """The value; only after it has arrived."""
        return self._slot.item()


class LateValues:
    """Values that were given to metric() and have not arrived from the GPU yet.

    Args:
        copy: Starts one copy; CudaCopy, or a stand-in where there is no GPU.
    """

    def __init__(self, copy: Callable[[Any], CudaCopy] = CudaCopy) -> None:
        self._copy = copy
        self.waiting: list[tuple[int, int, dict[str, CudaCopy]]] = []

    def add(self, step: int, milliseconds: int, values: dict[str, Any]) -> None:
        """Start to fetch the values of one metric() call."""
        copies = {key: self._copy(value) for key, value in values.items()}
        self.waiting.append((step, milliseconds, copies))

    def arrived(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Take out what has arrived: step, unix milliseconds of the call, values.

        The values of a name keep their order, on whatever streams they were made.
        """
        waiting, self.waiting = self.waiting, []
        held: set[str] = set()
        for entry in waiting:
            step, milliseconds, copies = entry
            if held.isdisjoint(copies) and all(copy.has_arrived() for copy in copies.values()):
                yield step, milliseconds, {key: copy.item() for key, copy in copies.items()}
            else:
                held.update(copies)
                self.waiting.append(entry)
