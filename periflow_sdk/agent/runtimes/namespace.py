"""The usual runtime: a new root in a mount namespace; the command itself is the shim's child."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from periflow_sdk.agent.folder import NodeFolder, write_json
from periflow_sdk.agent.mounts import Layout
from periflow_sdk.agent.training import shim_command

_NEWROOT = Path(__file__).with_name("newroot.py")
_TRIAL_SECONDS = 20.0


class NamespaceRuntime:
    """Mounts by system calls, with copy-on-write views of data and of the Python."""

    name = "namespace"
    real_paths = False
    covers_installs = True

    def __init__(self, folder: NodeFolder) -> None:
        self._folder = folder

    def plan(self, layout: Layout, argv: list[str]) -> dict[str, Any]:
        """The command as it is, in a root with every mount of the layout."""
        mounts = {
            **self._empty("root"),
            "binds": [[str(m.source), m.target] for m in layout.all() if not m.upper],
            "overlays": [
                {
                    "lower": str(m.source),
                    "upper": str(m.upper),
                    "target": m.target,
                    "required": m.required,
                    "shared": m.shared,
                }
                for m in layout.all()
                if m.upper
            ],
            "visible": list(layout.visible),
        }
        return {
            "argv": argv,
            "cwd": layout.workspace.target,
            "enter": str(_NEWROOT),
            "mounts": mounts,
        }

    def try_out(self) -> Callable[[], str | None]:
        """Begin a trial run of the shim; its answer is the fault, None where all works."""
        plan = self._folder / "trial.json"
        mounts = {**self._empty("trial"), "binds": [[str(self._folder.path), "/periflow-trial"]]}
        write_json(plan, {"probe": True, "enter": str(_NEWROOT), "mounts": mounts})
        shim = subprocess.Popen(
            [*shim_command(), str(plan)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

        def answer() -> str | None:
            try:
                _, complaint = shim.communicate(timeout=_TRIAL_SECONDS)
            except subprocess.TimeoutExpired:
                shim.kill()
                return "a mount namespace was not ready in time"
            plan.unlink(missing_ok=True)
            (self._folder / "trial").rmdir()
            if shim.returncode == 0:
                return None
            last = complaint.strip().splitlines()[-1:] or ["no reason given"]
            return f"a mount namespace is refused ({last[0]})"

        return answer

    def _empty(self, name: str) -> dict[str, Any]:
        root = self._folder / name
        root.mkdir(exist_ok=True)
        return {"root": str(root), "binds": [], "overlays": [], "visible": []}
