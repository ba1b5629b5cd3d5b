"""The fallback where this process may not make namespaces and `bwrap` may."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from periflow_sdk.agent.mounts import Layout, Mount

_TRIAL_SECONDS = 20.0


class BubblewrapRuntime:
    """The same root, built by bubblewrap. Its versions before 0.11 have no overlays."""

    name = "bubblewrap"
    real_paths = False

    @cached_property
    def covers_installs(self) -> bool:
        """Whether this bubblewrap has overlays."""
        shown = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)
        return "--overlay-src" in shown.stdout + shown.stderr

    def fault(self) -> str | None:
        """Why bubblewrap cannot be used here; None where it can."""
        if not shutil.which("bwrap"):
            return "bubblewrap is not installed"
        trial = ["bwrap", *_root(), "--dir", "/periflow-trial", "--", "true"]
        try:
            done = subprocess.run(
                trial, capture_output=True, text=True, check=False, timeout=_TRIAL_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bubblewrap does not start ({error})"
        if done.returncode == 0:
            return None
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        return f"bubblewrap is refused ({last[0]})"

    def plan(self, layout: Layout, argv: list[str]) -> dict[str, Any]:
        """bwrap with every mount of the layout, then the command."""
        world = _World()
        arguments = ["bwrap", *_root()]
        for mount in layout.all():
            if mount.upper and mount.target == str(mount.source) and not self.covers_installs:
                continue
            arguments += world.prepare(mount.target)
            arguments += self._mount(mount)
            world.mounted[mount.target] = True
        for path in layout.visible:
            if not world.shows(path) and Path(path).exists():
                arguments += ["--bind", path, path]
        return {
            "argv": [*arguments, "--chdir", layout.workspace.target, "--", *argv],
            "cwd": "/",
        }

    def _mount(self, mount: Mount) -> list[str]:
        if not mount.upper or not self.covers_installs:
            return ["--bind", str(mount.source), mount.target]
        upper, work = mount.upper / "up", mount.upper / "work"
        for folder in (upper, work):
            folder.mkdir(exist_ok=True)
        layers = ["--overlay-src", str(mount.source), "--overlay", str(upper), str(work)]
        return [*layers, mount.target]


class _World:
    """What has been mounted, and whether bubblewrap may make folders there (True: it is ours)."""

    def __init__(self) -> None:
        self.mounted = {"/": True}
        for entry in Path("/").iterdir():
            if not entry.is_symlink():
                self.mounted[str(entry)] = False

    def prepare(self, target: str) -> Iterator[str]:
        """Cover the nearest host folder by one in memory where the target would be made in it."""
        if self._ours(Path(target)) or Path(target).is_dir():
            return
        there = Path(target).parent
        while not there.is_dir():
            there = there.parent
        if self._ours(there):
            return
        yield from ("--tmpfs", str(there))
        for child in there.iterdir():
            yield from _show(child)
            self.mounted[str(child)] = False
        self.mounted[str(there)] = True

    def shows(self, path: str) -> bool:
        """Whether a host path is still to be seen."""
        return not self._ours(Path(path))

    def _ours(self, place: Path) -> bool:
        return next(
            self.mounted[str(folder)]
            for folder in (place, *place.parents)
            if str(folder) in self.mounted
        )


def _root() -> list[str]:
    arguments = ["--tmpfs", "/"]
    for entry in sorted(Path("/").iterdir()):
        arguments += _show(entry)
    return arguments


def _show(path: Path) -> list[str]:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return []
    if stat.S_ISLNK(mode):
        return ["--symlink", str(path.readlink()), str(path)]
    kind = "--dev-bind" if path == Path("/dev") else "--bind"
    return [kind, str(path), str(path)]
