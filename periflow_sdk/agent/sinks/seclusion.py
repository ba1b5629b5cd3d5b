"""Keeping a secret from other processes of the same user, as far as the kernel does."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import tempfile
from pathlib import Path

from periflow_sdk.agent.runtimes.newroot import CLONE_NEWNS, CLONE_NEWUSER, MS_REC, MS_SLAVE

_log = logging.getLogger(__name__)
_PR_SET_DUMPABLE = 4


def seclude(folder: Path) -> None:
    """Keep the job's processes from reading the memory of this one and of those it starts.

    A user namespace of its own does that for children as well: a job, which is in another one, may
    not trace what is in this. Temporary files (sockets) are where nobody else can see them. Where
    there are no namespaces, this process alone is guarded. Call it with one thread.

    Args:
        folder: Empty; what is temporary is mounted there.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _unshare(libc)
        _mount(libc, None, "/", None, MS_SLAVE | MS_REC)
        _mount(libc, b"tmpfs", str(folder), b"tmpfs", 0)
    except OSError as error:
        _log.info("no namespaces: %s", error)
    guard_memory()
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def guard_memory() -> None:
    """Let no other process of the same user read the memory of this one, nor trace it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _unshare(libc: ctypes.CDLL) -> None:
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _mount(
    libc: ctypes.CDLL, source: bytes | None, target: str, kind: bytes | None, flags: int
) -> None:
    if libc.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), None):
        raise OSError(ctypes.get_errno(), "mount", target)
