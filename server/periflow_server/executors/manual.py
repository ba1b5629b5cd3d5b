"""No agents at all: somebody else starts them in the node folders that the server makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


class ManualExecutor:
    """Starts nothing, and trusts that whoever does look after it."""

    def start(self, gang: Sequence[Path]) -> None:
        """Nothing."""

    def poll(self, gang: Iterable[Path]) -> set[Path]:
        """Nothing is ever missed."""
        return set()

    def stop(self, gang: Iterable[Path], *, keep_training: bool = False) -> None:
        """Nothing."""

    def clear(self, gang: Iterable[Path]) -> None:
        """Nothing."""
