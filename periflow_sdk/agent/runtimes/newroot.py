"""The mount paths made real in a root of the job's own, by system calls.

The shim's child loads this file alone (standard library only) and calls ``enter``. It leaves the
host's mounts, its root folder and everything outside the node folder as they were.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_SLAVE, MS_NOSUID, MS_NODEV = 0x1000, 0x4000, 0x80000, 0x2, 0x4
MS_NOEXEC = 0x8
MS_RDONLY, MS_REMOUNT = 0x1, 0x20
MNT_DETACH = 2
OLD = "/.host"

_libc = ctypes.CDLL(None, use_errno=True)


def enter(mounts: dict[str, Any]) -> None:
    """Give this process a root in which every target of ``mounts`` is there.

    Args:
        mounts: ``root``: an empty folder to build on. ``binds``: pairs of source folder and target.
            ``overlays``: maps of ``lower``, ``upper`` (a folder for what is written), ``target``,
            ``required`` and ``shared`` (see ``mounts.Mount``). ``visible``: host paths that no
            target may hide.

    Raises:
        OSError: the system does not allow it; the message names the call.
    """
    in_user_namespace = _unshare()
    _mount(None, "/", None, MS_SLAVE | MS_REC)
    root = _build_root(mounts["root"])
    _check(_libc.pivot_root(_path(root), _path(root + OLD)), "pivot_root")
    os.chdir("/")
    world = _World()
    steps = [(entry["target"], entry) for entry in mounts["overlays"]]
    steps += [(target, source) for source, target in mounts["binds"]]
    for target, what in sorted(steps, key=lambda step: Path(step[0]).parts):
        where = world.make_folder(target)
        if isinstance(what, str):
            _mount(OLD + what, where, None, MS_BIND | MS_REC)
            world.mounted[where] = True
        else:
            _overlay(what, where, in_user_namespace)
            world.mounted[where] = True
    for path in mounts["visible"]:
        if not os.path.lexists(path) and os.path.lexists(OLD + path):
            world.bind(OLD + path, path)
    _check(_libc.umount2(_path(OLD), MNT_DETACH), "umount2")
    Path(OLD).rmdir()


class _World:
    """What has been mounted, and whether new folders may be made there (True: it is ours)."""

    def __init__(self) -> None:
        self.mounted = {"/": True}
        for entry in os.scandir("/"):
            if not entry.is_symlink():
                self.mounted[entry.path] = False

    def make_folder(self, target: str) -> str:
        """The folder ``target``, made if it is missing: in memory where the place is the host's."""
        where = os.path.realpath(target)
        if Path(where).is_dir():
            return where
        there = Path(where).parent
        while not there.is_dir():
            there = there.parent
        if not self._ours(there):
            self._replace(there)
        Path(where).mkdir(parents=True)
        return where

    def bind(self, source: str, target: str) -> None:
        if Path(source).is_dir():
            target = self.make_folder(target)
        else:
            target = f"{self.make_folder(str(Path(target).parent))}/{Path(target).name}"
            Path(target).touch()
        _mount(source, target, None, MS_BIND | MS_REC)
        self.mounted[target] = False

    def _ours(self, folder: Path) -> bool:
        return next(
            self.mounted[str(place)]
            for place in (folder, *folder.parents)
            if str(place) in self.mounted
        )

    def _replace(self, folder: Path) -> None:
        """Cover a host folder by one in memory that shows the same children."""
        mode = stat.S_IMODE(folder.stat().st_mode)
        below = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        children = [entry.name for entry in os.scandir(folder)]
        _mount("tmpfs", str(folder), "tmpfs", 0, f"mode={mode:o}")
        for name in children:
            _show(f"/proc/self/fd/{below}/{name}", f"{folder}/{name}")
            self.mounted[f"{folder}/{name}"] = False
        os.close(below)
        self.mounted[str(folder)] = True


def _unshare() -> bool:
    """A mount namespace of our own; True when it needed a user namespace too."""
    user, group = os.geteuid(), os.getegid()
    if user == 0 and _libc.unshare(CLONE_NEWNS) == 0:
        return False
    _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _build_root(root: str) -> str:
    _mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for entry in os.scandir("/"):
        _show(entry.path, root + entry.path)
    Path(root + OLD).mkdir()
    return root


def _show(source: str, target: str) -> None:
    """The same thing at another place: a link copied, all else bound."""
    try:
        mode = os.lstat(source).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211
            return
        if stat.S_ISDIR(mode):
            Path(target).mkdir()
        else:
            Path(target).touch()
        _mount(source, target, None, MS_BIND | MS_REC)
    except FileNotFoundError:
        pass  # gone since it was listed


def _overlay(entry: dict[str, Any], target: str, in_user_namespace: bool) -> None:
    """Mount an overlay; where the disk cannot hold its upper layer, in memory; else as it is."""
    extra = ",userxattr" if in_user_namespace else ""
    lower = OLD + entry["lower"]
    upper = OLD + entry["upper"]
    hidden = _mounts_below(target) if entry["lower"] == entry["target"] else []
    try:
        try:
            _mount_overlay(lower, upper, target, extra)
        except OSError:
            _mount("tmpfs", upper, "tmpfs", 0, "mode=755")
            _mount_overlay(lower, upper, target, extra)
    except OSError:
        if entry["required"]:
            raise
        if entry["lower"] != entry["target"]:
            _mount(lower, target, None, MS_BIND | MS_REC)
            if entry.get("shared"):
                # What the file system has of these must stay, or the kernel refuses.
                kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
                _mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)
        return
    for place in hidden:
        _mount(OLD + place, place, None, MS_BIND | MS_REC)


def _mount_overlay(lower: str, upper: str, target: str, extra: str) -> None:
    for name in ("up", "work"):
        Path(upper, name).mkdir(exist_ok=True)
    Path(upper, "up").chmod(stat.S_IMODE(os.stat(lower).st_mode))  # noqa: PTH116
    options = ",".join(
        f"{key}={_escaped(value)}"
        for key, value in (
            ("lowerdir", lower),
            ("upperdir", f"{upper}/up"),
            ("workdir", f"{upper}/work"),
        )
    )
    _mount("overlay", target, "overlay", 0, options + extra)


def _escaped(path: str) -> str:
    for character in "\\:,":
        path = path.replace(character, f"\\{character}")
    return path


def _mounts_below(folder: str) -> list[str]:
    """Mount points inside a folder, which an overlay of it would hide."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    points = [line.split()[4] for line in text.splitlines()]
    return [point for point in points if point.startswith(folder + "/")]


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    result = _libc.mount(
        _path(source), _path(target), _path(kind), ctypes.c_ulong(flags), _path(data or None)
    )
    _check(result, f"mount {kind or 'bind'} on {target}")


def _path(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
