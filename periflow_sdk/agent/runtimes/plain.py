"""The last resort: real folders and variables that name them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from periflow_sdk.agent.mounts import Layout
from periflow_sdk.errors import UsageError


class PlainRuntime:
    """No mounts at all: the job finds its folders by CKPT_DIR and the like."""

    name = "plain"
    real_paths = True
    covers_installs = False

    def plan(self, layout: Layout, argv: list[str]) -> dict[str, Any]:
        """The command in the real workspace folder."""
        return {"argv": argv, "cwd": str(layout.workspace.source)}


def refuse_mount_paths(layout: Layout, texts: Iterable[str], faults: Iterable[str]) -> None:
    """Check that nothing the job will read names a mount path that is not real here.

    Raises:
        UsageError: with what to install or allow, or how to write the command instead.
    """
    whole = "\n".join(texts)
    for mount in layout.named():
        if not _names(whole, mount.target) or _is_same(Path(mount.target), mount.source):
            continue
        raise UsageError(
            f"The command names {mount.target}, which cannot be made real on this machine: "
            f"{'; '.join(faults)}.",
            code="mounts_refused",
            hint="Install bubblewrap (`sudo apt-get install bubblewrap`), allow user namespaces "
            "(`sudo sysctl -w user.max_user_namespaces=10000`, and on Ubuntu "
            "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`), or write "
            "$PERIFLOW_WORKSPACE_DIR, $PERIFLOW_DATA_DIR and $CKPT_DIR in the command.",
        )


def _names(text: str, path: str) -> bool:
    return re.search(rf"(?<![\w./~}}-]){re.escape(path)}(?![\w.-])", text) is not None


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
