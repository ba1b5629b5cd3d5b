"""What upload_checkpoint and save_checkpoint return."""

from __future__ import annotations

import os
import time


class Upload:
    """A checkpoint on its way to the control plane.

    Attributes:
        id: 32 hex digits; the checkpoint's name in the journal.
        step: The step it belongs to.
        size: Bytes staged; 0 outside a job, where there is nowhere to send them, and of a sharded
            checkpoint until it is written.
        error: Why it will not arrive, or None.

    Example:
        >>> import periflow_sdk as pf
        >>> pf.init()
        >>> pf.upload_checkpoint().done  # outside a job there is nothing to wait for
        True
        >>> pf.finish()
    """

    __slots__ = ("_folder", "_is_pending", "error", "id", "size", "step")

    def __init__(
        self,
        upload_id: str,
        step: int,
        size: int,
        folder: str | None,
        error: str | None = None,
        *,
        is_pending: bool = False,
    ) -> None:
        self.id = upload_id
        self.step = step
        self.size = size
        self.error = error
        self._folder = folder
        self._is_pending = is_pending

    def settle(self, *, size: int, error: str | None = None) -> None:
        """Say how the write of a sharded checkpoint came out; PeriFlow calls it."""
        self.size, self.error, self._is_pending = size, error, False

    @property
    def done(self) -> bool:
        """True once the checkpoint is committed, or there was nothing to send."""
        if self.error is not None or self._is_pending:
            return False
        # The agent removes the staged files after the commit: that is its answer.
        return self._folder is None or not os.path.exists(self._folder)  # noqa: PTH110

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the checkpoint is committed. Training never needs to.

        Args:
            timeout_seconds: How long to wait at most; None waits for ever.

        Returns:
            True if it is committed; False after the time-out or if it failed (see ``error``).
        """
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        pause = 0.01
        while not self.done:
            if self.error is not None or (end is not None and time.monotonic() >= end):
                return False
            time.sleep(pause if end is None else min(pause, max(0.0, end - time.monotonic())))
            pause = min(pause * 1.5, 0.5)
        return True

    def __repr__(self) -> str:
        state = self.error or ("done" if self.done else "under way")
        return f"<Upload {self.id[:8]} step {self.step}, {self.size} bytes: {state}>"
