"""What a job sees where: real folders of the node and the paths the job file gives them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.environment import cache_environment
from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from periflow_sdk.api.models import Assignment

_SYSTEM_FOLDERS = ("/", "/proc", "/dev", "/sys", "/run", "/etc", "/usr", "/bin", "/lib", "/tmp")


@dataclass(frozen=True)
class Mount:
    """A real folder and the path it has in the job.

    With ``upper`` the job sees a copy-on-write view; what it writes goes there.
    ``required`` says whether the job may run with the folder itself where overlays cannot be;
    one that is ``shared`` with others is then read only.
    """

    source: Path
    target: str
    upper: Path | None = None
    required: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Layout:
    """Every mount of a job, by what it is for."""

    workspace: Mount
    data: tuple[Mount, ...]
    checkpoint: Mount
    restored: Mount | None
    install: tuple[Mount, ...]
    visible: tuple[str, ...]

    def named(self) -> Iterator[Mount]:
        """The mounts whose paths the job file names."""
        yield self.workspace
        yield from self.data
        if not self.checkpoint.target.startswith(str(self.checkpoint.source)):
            yield self.checkpoint
        if self.restored:
            yield self.restored

    def all(self) -> list[Mount]:
        """Every mount, parents before what lies inside them."""
        return sorted([*self.named(), *self.install], key=lambda m: Path(m.target).parts)


def layout(assignment: Assignment, folder: NodeFolder, run_dir: Path) -> Layout:
    """Where everything of this job goes.

    Raises:
        UsageError: a mount path is a folder of the system, or two are the same.
    """
    setting = assignment.spec.job_setting
    base = posixpath.normpath(setting.workspace.mount_path)
    section = assignment.spec.checkpoint
    # Without a path of its own the checkpoint folder keeps its real one, which the job can see.
    output = section.output_checkpoint_dir or str(folder.checkpoint)
    checkpoint = Mount(folder.checkpoint, _target(base, output))
    restored = None
    if section.input and _target(base, section.input.mount_path) != checkpoint.target:
        restored = Mount(folder.restored, _target(base, section.input.mount_path))
    data = tuple(_data_mounts(assignment, folder, base))
    found = Layout(
        workspace=Mount(folder / "workspace", _target("/", base)),
        data=data,
        checkpoint=checkpoint,
        restored=restored,
        install=tuple(_install_mounts(assignment, folder)),
        visible=tuple(_visible(assignment, folder, run_dir)),
    )
    _check(found)
    return found


def _data_mounts(assignment: Assignment, folder: NodeFolder, base: str) -> Iterator[Mount]:
    """Views over the datasets that are on this machine, or will be; streamed ones have none."""
    for n, (mount, section) in enumerate(zip(assignment.data, assignment.spec.data, strict=True)):
        if section.mode == "copy" and mount.mount_path is not None:
            # By the place in the cache: the job does not see where links lead.
            source = (folder / "data" / str(n)).resolve()
            upper = folder.upper(f"data-{n}")
            yield Mount(source, _target(base, mount.mount_path), upper, shared=True)


def _target(base: str, path: str) -> str:
    return posixpath.normpath(posixpath.join("/", base, path)).replace("//", "/")


def _install_mounts(assignment: Assignment, folder: NodeFolder) -> Iterator[Mount]:
    """Views over the folders that `pip install` writes to."""
    prefix = assignment.shell.prefix
    candidates = [("prefix", Path(prefix))] if prefix else []
    candidates.append(("local", Path.home() / ".local"))
    for name, path in candidates:
        real = path.resolve()
        # An overlay cannot hold its own upper layer.
        if real.is_dir() and real != Path("/") and not folder.path.is_relative_to(real):
            yield Mount(real, str(real), folder.upper(name))


def _visible(assignment: Assignment, folder: NodeFolder, run_dir: Path) -> Iterator[str]:
    yield str(run_dir)
    yield str(folder / "token")
    yield str(folder.checkpoint)
    yield str(cache_environment().folder)
    if python := assignment.shell.python:
        yield str(Path(os.path.realpath(python)).parent.parent)


def _check(found: Layout) -> None:
    seen: set[str] = set()
    for mount in found.named():
        if mount.target in _SYSTEM_FOLDERS:
            raise UsageError(
                f"{mount.target} is a folder of the system and cannot be a mount path.",
                hint="Choose another path in the job file, for example /workspace/data.",
            )
        if mount.target in seen:
            raise UsageError(
                f"Two things are to be mounted at {mount.target}.",
                hint="Give each its own path in the job file.",
            )
        seen.add(mount.target)
