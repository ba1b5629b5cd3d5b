"""What machine a node is, and what the job's Python sees on it. No environment variable is read."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from periflow_sdk.agent.git import git_state
from periflow_sdk.agent.gpu import Gpus
from periflow_sdk.api.models import NodeSystem

_PROBE_SECONDS = 60.0
_MOST_PACKAGES = 2000
# As importlib.metadata finds them, which parses each file whole: in a fifth of the time.
_PROBE = """
import json, os, sys
found = {}
def read(path):
    head = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            key, colon, value = line.partition(":")
            if not colon:
                break
            head.setdefault(key.lower(), value.strip())
    if head.get("name"):
        found.setdefault(head["name"], head.get("version", ""))
for place in sys.path:
    try:
        names = sorted(os.listdir(place or "."))
    except OSError:
        continue
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            path = os.path.join(place, name)
            for file in (f"{path}/METADATA", f"{path}/PKG-INFO", path):
                try:
                    read(file)
                    break
                except OSError:
                    continue
print(json.dumps({"python": sys.version.split()[0], "packages": found}))
"""


def node_system(
    python: str | None, variables: Mapping[str, str], code: Path | None = None
) -> NodeSystem:
    """The machine this runs on.

    Args:
        python: The interpreter of the job, which is asked for its packages; None asks nobody.
        variables: The environment it is started with.
        code: The folder whose git state is wanted.
    """
    import psutil

    answer = _ask(python, variables) if python else {}
    packages = sorted(answer.get("packages", {}).items(), key=lambda item: item[0].lower())
    return NodeSystem(
        hostname=socket.gethostname(),
        os=platform.platform(),
        cpu=_cpu_model(),
        cpu_count=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpus=Gpus.find().describe(),
        python=answer.get("python"),
        packages=dict(packages[:_MOST_PACKAGES]),
        git=git_state(code) if code is not None else None,
    )


def _ask(python: str, variables: Mapping[str, str]) -> dict[str, Any]:
    try:
        # Not from the run's folder: what lies there must not be imported.
        done = subprocess.run(
            [*_gently(), python, "-c", _PROBE],
            cwd="/",
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=True,
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _gently() -> list[str]:
    """The job starts just now, on the same cores."""
    nice = shutil.which("nice")
    return [nice, "-n", "19"] if nice else []


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
