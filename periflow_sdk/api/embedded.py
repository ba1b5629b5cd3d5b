"""The embedded server of a home: found, proven, and started as a process by whoever has it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from periflow_sdk.api.proof import ask_proven
from periflow_sdk.errors import ServerUnreachableError

_ANSWER_SECONDS = 2.0
_START_SECONDS = 60.0


def embedded_url(home: Path) -> str:
    """The address of the embedded server, which has proven that it is ours; started if need be.

    Raises:
        ServerUnreachableError: it does not run, and cannot be started from here.
    """
    if url := _find(home):
        return url
    _start(home)
    if url := _find(home):
        return url
    raise ServerUnreachableError("The local server does not answer.", hint="pf server start")


def _find(home: Path) -> str | None:
    """Another user of this machine could listen on its port: no secret goes there unproven."""
    try:
        url = str(json.loads((home / "server" / "server.json").read_bytes())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    port = urlsplit(url).port
    if not url.startswith("http://127.0.0.1:") or port is None:
        return None
    try:
        return url if ask_proven(port, home / "server" / "key", _ANSWER_SECONDS) else None
    except OSError:
        return None


def _start(home: Path) -> None:
    """Starting it is the CLI's affair; the SDK only knows how to call it."""
    if importlib.util.find_spec("periflow_cli"):
        command = [sys.executable, "-m", "periflow_cli.main"]
    elif pf := shutil.which("pf"):
        command = [pf]
    else:
        raise ServerUnreachableError(
            "The local server does not run, and pf is not installed here to start it.",
            hint="pf server start",
        )
    variables = {k: v for k, v in os.environ.items() if k != "PERIFLOW_URL"}
    try:
        subprocess.run(
            [*command, "server", "start"],
            env={**variables, "PERIFLOW_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            stderr=sys.stderr,
            timeout=_START_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerUnreachableError(
            "The local server could not be started.", hint="pf server logs"
        ) from error
