"""Which runtime this machine allows, found by trying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.mounts import Layout


class Runtime(Protocol):
    """A way to run the command so that it finds its mount paths."""

    @property
    def name(self) -> str:
        """For events and the state file."""

    @property
    def real_paths(self) -> bool:
        """True where the mount paths do not exist and the job sees the real folders."""

    @property
    def covers_installs(self) -> bool:
        """True where what the command installs goes with the attempt."""

    def plan(self, layout: Layout, argv: list[str]) -> dict[str, Any]:
        """The shim's ``argv``, ``cwd``, ``enter`` and ``mounts`` for this command."""


@dataclass(frozen=True)
class Choice:
    """The best runtime that works here, and why better ones do not."""

    runtime: Runtime
    faults: tuple[str, ...] = ()


def begin_choice(folder: NodeFolder) -> Callable[[], Choice]:
    """Begin to try the usual runtime; call the answer when the runtime is needed."""
    from periflow_sdk.agent.runtimes.namespace import NamespaceRuntime

    usual = NamespaceRuntime(folder)
    trial = usual.try_out()

    def choose() -> Choice:
        from periflow_sdk.agent.runtimes.bubblewrap import BubblewrapRuntime
        from periflow_sdk.agent.runtimes.plain import PlainRuntime

        refused = trial()
        if refused is None:
            return Choice(usual)
        fallback = BubblewrapRuntime()
        fault = fallback.fault()
        if fault is None:
            return Choice(fallback, (refused,))
        return Choice(PlainRuntime(), (refused, fault))

    return choose
