"""The framework an integration is for: is it installed, and is its version one we have tried?"""

from __future__ import annotations

import importlib.util
import os
import re

from periflow_sdk._console import say
from periflow_sdk.errors import MissingExtraError

_told: set[str] = set()


def demand(title: str, modules: tuple[str, ...], requirement: str) -> None:
    """Check that a framework is there.

    Args:
        title: Its name for people.
        modules: Top-level modules, one of which is enough.
        requirement: What pip is to install.

    Raises:
        MissingExtraError: None of them can be imported.
    """
    if not any(importlib.util.find_spec(module) for module in modules):
        line = f"pip install '{requirement}'"
        raise MissingExtraError(f"{title} is not installed; install it with: {line}", hint=line)


def is_tested(title: str, version: str, newest: tuple[int, int]) -> bool:
    """Whether a version is not newer than those tried; a newer one is told once, by rank 0.

    Args:
        newest: Major and minor of the newest version that the tests ran on.
    """
    release = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if release <= newest:
        return True
    if title not in _told and os.environ.get("RANK", "0") == "0":
        _told.add(title)
        say(
            f"{title} {version} is newer than the last version PeriFlow was tested with "
            f"({newest[0]}.{newest[1]}); only its documented interface is used."
        )
    return False
