"""Which Python and PATH the shell has: a job runs with the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from periflow_sdk.api.models import ShellEnvironment

_PASSED = ("CONDA_PREFIX", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "LANG", "LC_ALL")
_PATH_LISTS = ("LD_LIBRARY_PATH", "PYTHONPATH")
_PROBE = (
    "import sys, importlib.util as u; "
    "print(sys.executable); print(sys.prefix); print(u.find_spec('periflow_sdk') is not None)"
)
_PROBE_SECONDS = 20


@dataclass(frozen=True)
class Interpreter:
    """A Python, the prefix its packages are in, and whether it can import the SDK."""

    executable: str
    prefix: str
    has_sdk: bool


def shell_environment(
    variables: Mapping[str, str] | None = None,
) -> tuple[ShellEnvironment, str | None]:
    """What the command of a job inherits, and a warning where it will miss something.

    An activated environment is taken as it is. Without one, and when `python` cannot import the
    SDK, the Python of `pf` comes first on PATH.

    Args:
        variables: The environment; ``os.environ`` if None.
    """
    env = os.environ if variables is None else variables
    kept = {name: env[name] for name in _PASSED if env.get(name)}
    kept |= {name: _absolute(env[name]) for name in _PATH_LISTS if env.get(name)}
    path = _absolute(env.get("PATH", os.defpath))
    found = _probe(path, kept)
    activated = "VIRTUAL_ENV" in kept or "CONDA_PREFIX" in kept
    warning = None
    if activated and found is not None and not found.has_sdk:
        warning = (
            f"{found.executable} cannot import periflow_sdk: a script that uses it will fail. "
            "Install it there, or deactivate the environment to use pf's own Python."
        )
    elif not activated and (found is None or not found.has_sdk):
        path = os.pathsep.join([str(Path(sys.executable).parent), path])
        found = Interpreter(sys.executable, sys.prefix, True)
    kept["PATH"] = path
    python, prefix = (found.executable, found.prefix) if found else (None, None)
    return ShellEnvironment(python=python, prefix=prefix, variables=kept), warning


def _probe(path: str, variables: Mapping[str, str]) -> Interpreter | None:
    """Ask the `python` on a PATH who it is; None where there is none that answers."""
    python = shutil.which("python", path=path)
    if python is None:
        return None
    try:
        # Not from here: a periflow_sdk folder in the working directory would count.
        done = subprocess.run(
            [python, "-c", _PROBE],
            cwd="/",
            env={**os.environ, **variables, "PATH": path},
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=True,
        )
        executable, prefix, has_sdk = done.stdout.splitlines()[-3:]
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(executable, prefix, has_sdk == "True")


def _absolute(path_list: str) -> str:
    """A PATH whose relative parts hold in any folder."""
    parts = [part for part in path_list.split(os.pathsep) if part]
    return os.pathsep.join(os.path.abspath(Path(part).expanduser()) for part in parts)  # noqa: PTH100
