"""The local server of a home, forked: as `pf` starts it, in a tenth of the time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from nursery import nursery
from waiting import wait_until


def host(home: Path, variables: Mapping[str, str]) -> None:
    """Have it run, with this environment, if it is dead.

    Elsewhere than on Linux the next `pf` does. One that `pf` is about to start must be up before.
    """
    folder = home / "server"
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    home.chmod(0o700)
    if parent := nursery("periflow_server"):
        words = ("serve", "--embedded", "--home", str(home))
        with (folder / "server.log").open("a") as log, Path(os.devnull).open() as nothing:
            streams = nothing.fileno(), log.fileno(), log.fileno()
            server = parent.fork(words, variables, Path("/"), *streams)
        # Where one lives already, this one ends by itself.
        wait_until(lambda: server.poll() is not None or _pid(folder) == server.pid)


def _pid(folder: Path) -> int | None:
    """Of the server that answers there."""
    try:
        return int(json.loads((folder / "server.json").read_text())["pid"])
    except (OSError, ValueError):
        return None
