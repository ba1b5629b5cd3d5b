"""A fixed number of reused buffers: what bounds the memory of a transfer."""

from __future__ import annotations

import mmap
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from periflow_sdk.snapshots.manifest import MAX_CHUNK_BYTES


class Cancelled(Exception):  # noqa: N818 - not a fault: another part of the transfer has failed
    """The transfer ends; whoever waits or works stops quietly."""


class BufferPool:
    """Buffers of one chunk each, made when first needed and given back to the system at the end.

    Args:
        count: How many there are at most.
        cancel: Ends waiting for a buffer.
    """

    def __init__(self, count: int, cancel: threading.Event) -> None:
        self._cancel = cancel
        self._unmade = count
        self._lock = threading.Lock()
        self._made: list[mmap.mmap] = []
        # The last one used is the next: the processor's cache may have some of it.
        self._free: queue.LifoQueue[mmap.mmap] = queue.LifoQueue()

    def take(self) -> mmap.mmap:
        """A buffer, as soon as one is free; hand it back with `give`.

        Raises:
            Cancelled: the transfer has ended meanwhile.
        """
        while True:
            if (buffer := self.poll()) is not None:
                return buffer
            try:
                return self._free.get(timeout=0.2)
            except queue.Empty:
                if self._cancel.is_set():
                    raise Cancelled from None

    def poll(self) -> mmap.mmap | None:
        """A buffer, or None while all are in use."""
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return self._make()

    def give(self, buffer: mmap.mmap) -> None:
        self._free.put(buffer)

    @contextmanager
    def lend(self) -> Iterator[mmap.mmap]:
        """A buffer for the length of the block."""
        buffer = self.take()
        try:
            yield buffer
        finally:
            self.give(buffer)

    def close(self) -> None:
        """Give the memory back, once nobody uses a buffer any more."""
        for buffer in self._made:
            # A view that an error's traceback still holds keeps its buffer until that is gone.
            with suppress(BufferError):
                buffer.close()

    def _make(self) -> mmap.mmap | None:
        with self._lock:
            if not self._unmade:
                return None
            self._unmade -= 1
            buffer = _memory(MAX_CHUNK_BYTES)
            self._made.append(buffer)
            return buffer


def _memory(size: int) -> mmap.mmap:
    """Memory of its own, in large pages where there are some: small ones cost a fault each."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer
